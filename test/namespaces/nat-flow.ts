/** Datagrams between a host inside and one outside, the session of which nft has judged. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, describe } from 'node:test';
import type { Endpoint } from '../../lab/lab-socket.ts';
import { sendThroughRing } from '../../lab/packet-ring.ts';
import type { UdpSocket } from '../../lab/udp-socket.ts';
import { waitFor } from '../../lab/wait-for.ts';
import { udpFrame } from '../../src/testing/packet-builder.ts';
import { output } from './gatehouse-lab.ts';
import {
  ARRIVAL_MS,
  addresses,
  endpointOf,
  type FastPath,
  type HostName,
  NARROW_MTU,
  NatLab,
  type NatLabOptions,
} from './nat-lab.ts';

/**
 * Runs tests with the fast path at tc, at XDP, and without it: what they see must be the same.
 *
 * @param options `checksumOffload`: `on` by default; at XDP always `off`, since nobody there
 *   computes what a sender left to its device
 */
export function describeFastPath(
  options: Pick<NatLabOptions, 'name' | 'config' | 'ipv6' | 'impaired'> &
    Partial<Pick<NatLabOptions, 'checksumOffload'>>,
  defineTests: (place: () => NatLab, fastPath: FastPath) => void,
): void {
  const { checksumOffload: wanted = 'on', config: given, ...rest } = options;
  for (const fastPath of ['auto', 'xdp', 'off'] as const) {
    const checksumOffload = fastPath === 'xdp' ? 'off' : wanted;
    describe(`with fast path ${fastPath} and checksum offload ${checksumOffload}`, () => {
      let place: NatLab | undefined;
      before(async () => {
        const config = { ...given, fastPath };
        place = await NatLab.start({ ...rest, checksumOffload, config });
        await place.awaitHealth();
      });
      after(async () => {
        try {
          await place?.assertChecksums();
        } finally {
          await place?.stop();
        }
      });
      defineTests(() => place ?? assert.fail('the lab did not start'), fastPath);
    });
  }
}

/**
 * Of what an action sends, at least so many packets go fast where they may, and none elsewhere. At
 * XDP, some of them go fast at tc: the first to each neighbour in each two ticks.
 */
export async function assertWay(
  place: NatLab,
  expected: { readonly fastPath: FastPath; readonly packets: number },
  action: () => Promise<unknown>,
): Promise<void> {
  const before = await place.fastCounts();
  await action();
  const after = await place.fastCounts();
  const count = after.all - before.all;
  if (expected.fastPath === 'off') assert.equal(count, 0);
  else assert.ok(count >= expected.packets, `${count} went fast, not ${expected.packets}`);
  if (expected.fastPath !== 'xdp') assert.equal(after.atXdp, before.atXdp);
}

export interface FlowOptions {
  readonly fastPath: FastPath;
  readonly from?: 'alice' | 'bob' | 'guest' | 'depot';
  readonly port?: number;
  /** Default: 4. */
  readonly family?: 4 | 6;
  /** Where its outer end is. Default: the server. */
  readonly to?: 'server' | 'stranger';
  readonly remotePort?: number;
}

/** Between a host inside and one outside. */
export class Flow implements Disposable {
  readonly inside: UdpSocket;
  readonly outside: UdpSocket;
  /** How the outer end sees the inside one. */
  readonly mapped: Endpoint;

  private constructor(inside: UdpSocket, outside: UdpSocket, mapped: Endpoint) {
    this.inside = inside;
    this.outside = outside;
    this.mapped = mapped;
  }

  /** Judged, and shown to go fast where that is switched on. */
  static async judged(place: NatLab, options: FlowOptions): Promise<Flow> {
    const { fastPath, from = 'alice', port = 0, family = 4 } = options;
    const { to = 'server', remotePort = 0 } = options;
    const inside = family === 4 ? place.udp(from, port) : place.udp6(from, port);
    const outside = family === 4 ? place.udp(to, remotePort) : place.udp6(to, remotePort);
    const mapped = await place.externalEndpoint(inside, outside);
    return new Flow(inside, outside, mapped).#shown(place, fastPath);
  }

  /** As {@link Flow.judged}, opened from outside by a port forward. */
  static async forwarded(
    place: NatLab,
    options: {
      readonly fastPath: FastPath;
      readonly to: 'alice' | 'bob';
      readonly port: number;
      readonly externalPort: number;
    },
  ): Promise<Flow> {
    const { fastPath, to, port, externalPort } = options;
    const mapped = { address: addresses.external, port: externalPort };
    const flow = new Flow(place.udp(to, port), place.udp('server'), mapped);
    await flow.assertPassesIn();
    await flow.assertPassesOut();
    return flow.#shown(place, fastPath);
  }

  async #shown(place: NatLab, fastPath: FastPath): Promise<Flow> {
    await assertWay(place, { fastPath, packets: 4 }, async () => {
      await this.assertPasses();
      await this.assertPasses();
    });
    if (fastPath === 'xdp') await this.assertGoesAtXdp(place);
    return this;
  }

  /** Each way. */
  async assertGoesAtXdp(place: NatLab): Promise<void> {
    for (const pass of [() => this.assertPassesOut(), () => this.assertPassesIn()]) {
      const { atXdp } = await place.fastCounts();
      const passOnce = async () => {
        await pass();
        return (await place.fastCounts()).atXdp;
      };
      const until = (count: number) => count > atXdp;
      await waitFor('a packet to go at XDP', passOnce, { timeoutMs: ARRIVAL_MS, until });
    }
  }

  sendOut(payload: string | Uint8Array): void {
    this.inside.send(endpointOf(this.outside), payload);
  }

  sendIn(payload: string | Uint8Array): void {
    this.outside.send(this.mapped, payload);
  }

  /** Each way, a datagram arrives now, and nothing else has since the last look. */
  async assertPasses(): Promise<void> {
    await this.assertPassesOut();
    await this.assertPassesIn();
  }

  async assertPassesOut(): Promise<void> {
    const payload = randomUUID();
    this.sendOut(payload);
    const datagram = await this.outside.nextDatagram(ARRIVAL_MS);
    assert.deepEqual([`${datagram.payload}`, datagram.from], [payload, this.mapped]);
    assert.deepEqual(this.outside.drain(), []);
  }

  async assertPassesIn(): Promise<void> {
    const payload = randomUUID();
    this.sendIn(payload);
    const datagram = await this.inside.nextDatagram(ARRIVAL_MS);
    const sender = endpointOf(this.outside);
    assert.deepEqual([`${datagram.payload}`, datagram.from], [payload, sender]);
    assert.deepEqual(this.inside.drain(), []);
  }

  /** As the inside host puts it on its link, to the gateway; at least as long as the shortest. */
  async frameOut(place: NatLab, payload: Uint8Array): Promise<Uint8Array<ArrayBuffer>> {
    const { address: source, port: sourcePort } = endpointOf(this.inside);
    const { address: destination, port: destinationPort } = endpointOf(this.outside);
    return udpFrame({
      sourceMac: await macAddressOf(place, 'alice', 'eth0'),
      destinationMac: await macAddressOf(place, 'gateway', 'lan0'),
      ...{ source, sourcePort, destination, destinationPort, payload },
    });
  }

  close(): void {
    this.inside.close();
    this.outside.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

export function sendFrame(place: NatLab, from: HostName, frame: Uint8Array): void {
  place.host(from).enter(() => sendThroughRing('eth0', frame));
}

export async function macAddressOf(place: NatLab, host: HostName, interfaceName: string) {
  const shown = await place.output(host, 'ip', '-json', 'link', 'show', 'dev', interfaceName);
  const [{ address } = { address: '' }] = JSON.parse(shown) as { readonly address: string }[];
  return address;
}

/** Both ends of each, and whatever is between. */
const linkEnds = {
  wan0: [
    ['gateway', 'wan0'],
    ['isp', 'wan0'],
  ],
  lan0: [
    ['gateway', 'lan0'],
    ['switch', 'gateway'],
    ['switch', 'alice'],
    ['alice', 'eth0'],
  ],
} as const;

/** One of the gateway's links. The hosts behind the next one know nothing about it. */
export async function narrow(place: NatLab, link: 'wan0' | 'lan0'): Promise<AsyncDisposable> {
  const setMtu = async (bytes: number) => {
    for (const [host, name] of linkEnds[link]) {
      const argv = ['ip', 'link', 'set', 'dev', name, 'mtu', `${bytes}`] as const;
      await output(place.lab.host(host), ...argv);
    }
  };
  const forget = async () => {
    for (const name of ['alice', 'server'] as const) {
      for (const family of ['-4', '-6']) {
        await place.output(name, 'ip', family, 'route', 'flush', 'cache');
      }
    }
  };
  await forget();
  await setMtu(NARROW_MTU);
  return later(async () => {
    await setMtu(1_500);
    await forget();
  });
}

/** The one frame that carries a payload. */
export function frameWith(frames: readonly Uint8Array[], payload: Uint8Array): Uint8Array {
  const found = frames.filter((frame) => Buffer.from(frame).includes(payload));
  assert.equal(found.length, 1, `${found.length} frames carry the payload`);
  return found[0] ?? assert.fail();
}

/** Done at the end of a test, however it ends. */
export function later(action: () => Promise<unknown>): AsyncDisposable {
  return {
    [Symbol.asyncDispose]: async () => {
      await action();
    },
  };
}
