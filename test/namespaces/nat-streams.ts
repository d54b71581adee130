/** What a test sends through the NAT at full speed while it changes what may pass. */
import assert from 'node:assert/strict';
import { waitFor } from '../../lab/wait-for.ts';
import { TIMEOUT_MS } from './gatehouse-lab.ts';
import { type Flow, later } from './nat-flow.ts';
import { ARRIVAL_MS, addresses, type NatLab } from './nat-lab.ts';

/** Of the server. */
export const DOWNLOAD_PORT = 7_200;

/** By TCP, from the server to alice, for longer than any test. */
export async function startDownload(place: NatLab): Promise<AsyncDisposable> {
  const port = ['-p', `${DOWNLOAD_PORT}`];
  const server = place.host('server').spawn(['iperf3', '-s', ...port, '--forceflush']);
  await server.waitForOutput(/listening/, ARRIVAL_MS);
  const words = ['-c', addresses.server, ...port, '-R', '-t', '60', '-b', '100M', '--forceflush'];
  const client = place.host('alice').spawn(['iperf3', ...words]);
  await client.waitForOutput(/connected to/, ARRIVAL_MS);
  return later(() => Promise.all([client.stop(), server.stop()]));
}

/** Datagrams of each flow and direction in a round, of which there are less than 1,000 a second. */
const FAST_ROUND = 20;
const MODERATE_ROUND = 1;
/** Datagrams of each direction before and after a change. */
const MORE_PACKETS = 2_000;

/** Numbered datagrams both ways: at a high rate in one flow, at a moderate one in another. */
export class Streams {
  readonly #fast: NumberedFlow;
  readonly #moderate: NumberedFlow;
  #forbiddenFrom = Number.POSITIVE_INFINITY;

  constructor(fast: Flow, moderate: Flow) {
    this.#fast = new NumberedFlow(fast);
    this.#moderate = new NumberedFlow(moderate);
  }

  /** Sends until the action is over. */
  async sendWhile(action: () => Promise<void>): Promise<void> {
    let isOver = false;
    const acting = action().finally(() => {
      isOver = true;
    });
    const round = () => {
      this.#fast.listen();
      this.#moderate.listen();
      if (isOver) return true;
      this.#fast.send(FAST_ROUND);
      this.#moderate.send(MODERATE_ROUND);
      return false;
    };
    const options = { timeoutMs: TIMEOUT_MS, intervalMs: 1 };
    await Promise.all([acting, waitFor('the end of what sends', round, options)]);
  }

  /** Waits until so many more are sent. */
  async sendMore(): Promise<void> {
    const until = this.#fast.sentCount + MORE_PACKETS;
    const isSent = () => this.#fast.sentCount >= until;
    await waitFor('more to be sent', isSent, { timeoutMs: ARRIVAL_MS });
  }

  /** What is sent at the high rate from now on must not arrive. */
  noteForbidden(): void {
    this.#forbiddenFrom = this.#fast.sentCount;
  }

  assertForbiddenStopped(): void {
    for (const heard of this.#fast.heard) {
      const last = heard.at(-1) ?? assert.fail('nothing arrived');
      assert.ok(last < this.#forbiddenFrom, `${last} arrived, of ${this.#forbiddenFrom} allowed`);
    }
  }

  async assertOtherWhole(): Promise<void> {
    const { sentCount } = this.#moderate;
    const all = Array.from({ length: sentCount }, (_, number) => number);
    const listen = () => {
      this.#moderate.listen();
      return this.#moderate.heard.every((heard) => heard.length >= sentCount);
    };
    await waitFor('all of the other flow', listen, { timeoutMs: ARRIVAL_MS });
    assert.deepEqual(this.#moderate.heard, [all, all]);
  }
}

class NumberedFlow {
  /** Numbers in the order in which they came: inside, outside. */
  readonly heard: readonly [number[], number[]] = [[], []];
  sentCount = 0;
  readonly #flow: Flow;

  constructor(flow: Flow) {
    this.#flow = flow;
  }

  send(count: number): void {
    for (let round = 0; round < count; round++) {
      const payload = `${this.sentCount}`;
      this.#flow.sendOut(payload);
      this.#flow.sendIn(payload);
      this.sentCount += 1;
    }
  }

  listen(): void {
    const [inside, outside] = this.heard;
    inside.push(...this.#flow.inside.drain().map(({ payload }) => Number(`${payload}`)));
    outside.push(...this.#flow.outside.drain().map(({ payload }) => Number(`${payload}`)));
  }
}
