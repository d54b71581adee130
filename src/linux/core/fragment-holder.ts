/**
 * Keeps fragments that came before the first of their datagram, and gives them back when it has
 * come. What waits how long is decided in src/nat/fragment-hold.ts; here are the interface, the
 * kernel's events and the clock.
 *
 * Everything happens in the event loop: it is woken when a frame or an event comes and at
 * deadlines, and sleeps while nothing is held. A thread of its own would save it little, since
 * frames come here only when somebody's come in the wrong order, and could not be ended while it
 * waits in the kernel. A flood costs a limited share of the loop: see {@link FRAMES_PER_TURN_MAX}.
 */
import {
  NatFragmentAction,
  NatFragmentEvent,
  type NatFragmentKey,
  type NatHook,
} from '../../abi/layouts.generated.ts';
import type { natObject } from '../../abi/nat.generated.ts';
import { tickAt } from '../../gateway/nat-plan.ts';
import { FragmentHold, type FragmentHoldCommand } from '../../nat/fragment-hold.ts';
import type { BpfObject } from '../bpf-object.ts';
import { pollReadable, type ReadablePoll } from '../poll-readable.ts';
import { HOLD_INTERFACE_NAME, HoldInterface } from './hold-interface.ts';

export interface FragmentHolderOptions {
  /** Where the NAT's programs run now, by the interface's index. Asked whenever frames come. */
  readonly hooks: () => ReadonlyMap<number, NatHook>;
  /** {@link FragmentHolder.interfaceIndex} or {@link FragmentHolder.trouble} became another. */
  readonly onChange: () => void;
}

/** Those of the NAT's maps that say what becomes of fragments. */
export type FragmentMaps = Pick<BpfObject<typeof natObject>['maps'], 'natFragments' | 'natEvents'>;

export interface FragmentCount {
  readonly name: string;
  readonly count: number;
}

/**
 * Frames that are read before everything else has its turn. When there were as many, the next are
 * read after {@link PAUSE_MS}: at most 16,000 a second, each some microseconds. What comes faster
 * fills the interface's queue of 500 frames and is dropped there.
 */
const FRAMES_PER_TURN_MAX = 64;
const PAUSE_MS = 4;
/** Larger than any Ethernet frame with the largest MTU, 65,535. */
const FRAME_BYTES_MAX = 65_600;

interface Open {
  readonly hold: HoldInterface;
  readonly poll: ReadablePoll;
}

export class FragmentHolder {
  readonly #options: FragmentHolderOptions;
  readonly #held = new FragmentHold({ isFirstKnown: (key) => this.#isFirstKnown(key) });
  readonly #buffer = new Uint8Array(FRAME_BYTES_MAX);
  #maps: FragmentMaps | undefined;
  #events: { stop(): void } | undefined;
  #open: Open | undefined;
  #trouble: string | undefined;
  #pauseTimer: NodeJS.Timeout | undefined;
  #deadlineTimer: NodeJS.Timeout | undefined;
  /** Frames that were to go back and did not, without those that {@link HoldInterface} counts. */
  #unreturnedCount = 0;

  constructor(options: FragmentHolderOptions) {
    this.#options = options;
  }

  /** For `hold_interface` of the NAT's settings; 0 while there is none. */
  get interfaceIndex(): number {
    return this.#open?.hold.index ?? 0;
  }

  /** Why fragments that come before their first are lost; undefined when they are held. */
  get trouble(): string | undefined {
    return this.#trouble;
  }

  /**
   * From now on fragments are held for these maps; makes the interface where it is missing. Never
   * throws: see {@link trouble}. What waits goes on waiting. Does not call `onChange`.
   */
  follow(maps: FragmentMaps): void {
    try {
      this.#listen(maps);
      this.#open ??= this.#openHold();
      this.#trouble = undefined;
    } catch (cause) {
      this.#trouble = `fragments that come before their first are lost: ${textOf(cause)}`;
    }
  }

  /** The maps are about to go, and the interface goes. What waits is dropped when its time ends. */
  stop(): void {
    this.#events?.stop();
    this.#events = undefined;
    this.#maps = undefined;
    this.#trouble = undefined;
    this.#close();
  }

  /** Of frames, since the start; those that are not zero. */
  counters(): FragmentCount[] {
    const { returned, ...dropped } = this.#held.counters();
    const unreturned = this.#unreturnedCount + (this.#open?.hold.droppedCount() ?? 0);
    return [
      { name: 'fragmentReturned', count: returned - unreturned },
      { name: 'droppedFragmentLate', count: dropped.droppedExpired },
      { name: 'droppedFragmentNoRoom', count: dropped.droppedNoRoom },
      { name: 'droppedFragmentOversized', count: dropped.droppedOversized },
      { name: 'droppedFragmentForeign', count: dropped.droppedForeign },
      { name: 'droppedFragmentUnreturned', count: unreturned },
    ].filter(({ count }) => count > 0);
  }

  #isFirstKnown(key: NatFragmentKey): boolean {
    const first = this.#maps?.natFragments.lookup(key);
    if (first === undefined || first.action === NatFragmentAction.awaited) return false;
    return first.untilTick > tickAt(process.hrtime.bigint());
  }

  #listen(maps: FragmentMaps): void {
    if (this.#maps === maps) return;
    this.#events?.stop();
    this.#maps = maps;
    this.#events = maps.natEvents.start((view, at) => {
      this.#handleFirst(NatFragmentEvent.decode(view, at).key);
    });
  }

  #openHold(): Open {
    const hold = new HoldInterface();
    return { hold, poll: pollReadable(hold.tap.fd, () => this.#read()) };
  }

  #read(): void {
    if (this.#open === undefined) return;
    const { hold, poll } = this.#open;
    try {
      const hooks = this.#options.hooks();
      this.#held.handleInterfaces(hooks);
      hold.allow(new Set(hooks.keys()));
      if (this.#readFrames(hold) < FRAMES_PER_TURN_MAX) return;
    } catch (cause) {
      this.#lose(cause);
      return;
    }
    poll.pause();
    this.#pauseTimer = setTimeout(() => poll.resume(), PAUSE_MS);
  }

  /** @returns how many there were */
  #readFrames(hold: HoldInterface): number {
    for (let count = 0; count < FRAMES_PER_TURN_MAX; count++) {
      const length = hold.tap.readFrame(this.#buffer);
      if (length === undefined) return count;
      const frame = this.#buffer.subarray(0, length);
      this.#perform(this.#held.handleFrame(frame, performance.now()));
    }
    return FRAMES_PER_TURN_MAX;
  }

  #handleFirst(key: NatFragmentKey): void {
    try {
      this.#perform(this.#held.handleFirst(key));
    } catch (cause) {
      this.#lose(cause);
    }
  }

  #handleTimeout(): void {
    this.#deadlineTimer = undefined;
    try {
      this.#perform(this.#held.handleTimeout(performance.now()));
    } catch (cause) {
      this.#lose(cause);
    }
  }

  #perform(commands: readonly FragmentHoldCommand[]): void {
    for (const { bytes } of commands) {
      if (this.#open?.hold.tap.writeFrame(bytes) !== true) this.#unreturnedCount++;
    }
    this.#awaitDeadline();
  }

  /** One that is set already is never too late: what comes later ends later. */
  #awaitDeadline(): void {
    const deadline = this.#held.nextDeadline();
    if (deadline === undefined || this.#deadlineTimer !== undefined) return;
    const delay = Math.ceil(Math.max(0, deadline - performance.now()));
    this.#deadlineTimer = setTimeout(() => this.#handleTimeout(), delay);
    this.#deadlineTimer.unref();
  }

  /** Somebody deleted the interface, for example. The next {@link follow} makes it again. */
  #lose(cause: unknown): void {
    const what = `${HOLD_INTERFACE_NAME} is gone: ${textOf(cause)}`;
    this.#trouble = `fragments that come before their first are lost: ${what}`;
    this.#close();
    this.#options.onChange();
  }

  #close(): void {
    clearTimeout(this.#pauseTimer);
    if (this.#open === undefined) return;
    const { hold, poll } = this.#open;
    this.#open = undefined;
    this.#unreturnedCount += hold.droppedCount();
    poll.stop();
    hold.close();
  }
}

function textOf(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause);
}
