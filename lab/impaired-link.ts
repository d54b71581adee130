/**
 * The process that carries one impaired link: it holds a TAP device in each of two namespaces and
 * passes frames between them through the model of impairment.ts.
 *
 * The first line on stdin says what to connect; each further line is a request, answered by one
 * line on stdout. At the end of stdin it ends, and its devices with it.
 *
 * It does not use Node's event loop. One thread waits in ppoll for both devices, for stdin and
 * for the next deadline, then reads frames until there are none: no thread a device, no call back
 * into JavaScript a frame, deadlines to some tens of microseconds, no processor time while idle.
 */
import { readSync, writeSync } from 'node:fs';
import { TapDevice, waitReadable } from '../src/linux/tap.ts';
import { ImpairedDirection, type Impairment, type ImpairmentCounters } from './impairment.ts';

/** The first line on stdin. */
export interface ImpairedLinkSetup {
  readonly ends: readonly [TapPlace, TapPlace];
  readonly seed: number;
  readonly firstToSecond: Impairment;
  readonly secondToFirst: Impairment;
}

export interface TapPlace {
  readonly namespacePath: string;
  readonly interfaceName: string;
}

/** A later line on stdin. `id` comes back in the answer. */
export interface ImpairedLinkRequest {
  readonly id: number;
  /** Replaces the impairment of a direction that is given. */
  readonly firstToSecond?: Impairment;
  readonly secondToFirst?: Impairment;
}

export interface ImpairedLinkAnswer {
  readonly id: number;
  readonly counters: ImpairedLinkCounters;
}

export interface ImpairedLinkCounters {
  readonly firstToSecond: DirectionCounters;
  readonly secondToFirst: DirectionCounters;
}

export interface DirectionCounters extends ImpairmentCounters {
  /** Of the forwarded frames, those that the far interface did not take, since it was down. */
  readonly undeliveredCount: number;
}

/** Larger than any Ethernet frame with the largest MTU, 65,535. */
const FRAME_BYTES_MAX = 65_600;

/** Frames read from one device before the other has its turn: the queue of 500 frames is larger. */
const BATCH_FRAMES = 64;

class Direction {
  readonly model: ImpairedDirection;
  readonly #from: TapDevice;
  readonly #to: TapDevice;
  readonly #buffer = new Uint8Array(FRAME_BYTES_MAX);
  #undeliveredCount = 0;

  constructor(from: TapDevice, to: TapDevice, model: ImpairedDirection) {
    this.#from = from;
    this.#to = to;
    this.model = model;
  }

  receive(): void {
    for (let count = 0; count < BATCH_FRAMES; count += 1) {
      const length = this.#from.readFrame(this.#buffer);
      if (length === undefined) return;
      const frame = this.#buffer.subarray(0, length);
      if (this.model.handleFrame(frame, performance.now()).outcome === 'forward') this.#send(frame);
    }
  }

  deliverDue(): void {
    const now = performance.now();
    for (;;) {
      const frame = this.model.takeDue(now);
      if (frame === undefined) return;
      this.#send(frame);
    }
  }

  counters(): DirectionCounters {
    return { ...this.model.counters(), undeliveredCount: this.#undeliveredCount };
  }

  #send(frame: Uint8Array<ArrayBuffer>): void {
    if (!this.#to.writeFrame(frame)) this.#undeliveredCount += 1;
  }
}

/** Requests from the lab, one line each. */
class RequestReader {
  static readonly fd = 0;
  readonly #buffer = new Uint8Array(4096);
  readonly #decoder = new TextDecoder();
  #text = '';

  /** Blocks if nothing waits. Undefined at the end of the input. */
  readLines(): string[] | undefined {
    const length = readSync(RequestReader.fd, this.#buffer);
    if (length === 0) return undefined;
    this.#text += this.#decoder.decode(this.#buffer.subarray(0, length), { stream: true });
    const lines = this.#text.split('\n');
    this.#text = lines.pop() ?? '';
    return lines;
  }
}

function main(): void {
  const requests = new RequestReader();
  let waiting: string[] = [];
  while (waiting.length === 0) {
    const lines = requests.readLines();
    if (lines === undefined) return;
    waiting = lines;
  }
  // Lines come from lab.ts of the same version, which builds them from these types.
  const setup = JSON.parse(waiting.shift() ?? '') as ImpairedLinkSetup;
  const [first, second] = setup.ends.map((place) => TapDevice.open(place));
  if (first === undefined || second === undefined) throw new Error('a link has two ends');
  const directions = {
    firstToSecond: new Direction(
      first,
      second,
      new ImpairedDirection(setup.firstToSecond, setup.seed),
    ),
    secondToFirst: new Direction(
      second,
      first,
      // Another seed, or both directions would lose the same frames.
      new ImpairedDirection(setup.secondToFirst, setup.seed ^ 0x5bd1e995),
    ),
  };
  writeSync(1, '{"ready":true}\n');
  for (const line of waiting) answer(line, directions);
  carry([first, second], directions, requests);
}

type Directions = Readonly<Record<'firstToSecond' | 'secondToFirst', Direction>>;

function carry(
  taps: readonly [TapDevice, TapDevice],
  directions: Directions,
  requests: RequestReader,
): void {
  const { firstToSecond, secondToFirst } = directions;
  const fds = [taps[0].fd, taps[1].fd, RequestReader.fd];
  for (;;) {
    firstToSecond.deliverDue();
    secondToFirst.deliverDue();
    const deadlines = [firstToSecond.model.nextDeadline(), secondToFirst.model.nextDeadline()];
    const next = Math.min(...deadlines.map((deadline) => deadline ?? Number.POSITIVE_INFINITY));
    const timeoutMs = next === Number.POSITIVE_INFINITY ? undefined : next - performance.now();
    const [atFirst, atSecond, atRequests] = waitReadable(fds, timeoutMs);
    if (atFirst === true) firstToSecond.receive();
    if (atSecond === true) secondToFirst.receive();
    if (atRequests !== true) continue;
    const lines = requests.readLines();
    if (lines === undefined) return;
    for (const line of lines) answer(line, directions);
  }
}

function answer(line: string, directions: Directions): void {
  const request = JSON.parse(line) as ImpairedLinkRequest;
  const { firstToSecond, secondToFirst } = directions;
  if (request.firstToSecond !== undefined) firstToSecond.model.impair(request.firstToSecond);
  if (request.secondToFirst !== undefined) secondToFirst.model.impair(request.secondToFirst);
  const answered: ImpairedLinkAnswer = {
    id: request.id,
    counters: {
      firstToSecond: firstToSecond.counters(),
      secondToFirst: secondToFirst.counters(),
    },
  };
  writeSync(1, `${JSON.stringify(answered)}\n`);
}

main();
