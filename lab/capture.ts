import { readFileSync } from 'node:fs';
import {
  type Argv,
  describeFailure,
  type RunningProcess,
  runCommand,
} from '../src/linux/command-runner.ts';
import { type CapturedFrame, decodePcap } from './pcap.ts';
import { waitFor } from './wait-for.ts';

export interface CaptureOptions {
  /** In the language of pcap-filter(7). Default: everything, both directions. */
  readonly filter?: string;
  /** The capture ends by itself after so many packets. Default: 10,000, about 15 MB at most. */
  readonly packetCountMax?: number;
}

const PACKET_COUNT_MAX = 10_000;
/** The largest IP packet with its Ethernet header and two VLAN tags. */
const SNAPSHOT_BYTES = 65_535 + 22;
/** A thousand slots. */
const BUFFER_KIB = 64 * 1024;
const START_TIMEOUT_MS = 20_000;
const TSHARK_TIMEOUT_MS = 60_000;
let captureCount = 0;

/** A running or ended capture on one interface of the lab; its file goes with the lab. */
export class Capture {
  /** The capture file, complete after `stop`. */
  readonly path: string;
  readonly #tcpdump: RunningProcess;

  private constructor(path: string, tcpdump: RunningProcess) {
    this.path = path;
    this.#tcpdump = tcpdump;
  }

  /**
   * Starts tcpdump and waits until it listens.
   *
   * @throws Error with tcpdump's words, for a filter or interface that it refuses
   */
  static async start(
    options: CaptureOptions & {
      interfaceName: string;
      directory: string;
      spawn: (argv: Argv) => RunningProcess;
    },
  ): Promise<Capture> {
    const { interfaceName, directory, filter, packetCountMax = PACKET_COUNT_MAX } = options;
    captureCount += 1;
    const path = `${directory}/${captureCount}-${interfaceName}.pcap`;
    const tcpdump = options.spawn([
      'tcpdump',
      ...['-i', interfaceName, '-w', path, '-c', `${packetCountMax}`],
      // Every packet at once, to the process and to the file, without names looked up.
      ...['--immediate-mode', '-U', '-n'],
      // All of a super-packet. Immediate mode gives each packet a slot of this size, so that the
      // usual 2 MB buffer would hold a burst of thirty.
      ...['-s', `${SNAPSHOT_BYTES}`, '-B', `${BUFFER_KIB}`],
      // The lab's folder is root's alone.
      ...['-Z', 'root'],
      ...(filter === undefined ? [] : [filter]),
    ]);
    await tcpdump.waitForOutput(/listening on/, START_TIMEOUT_MS);
    return new Capture(path, tcpdump);
  }

  /**
   * Ends the capture and returns the file's bytes. Safe to call again.
   *
   * @throws Error when packets came faster than tcpdump could take them: the file has gaps
   */
  async stop(): Promise<Buffer> {
    await this.#tcpdump.stop();
    const lost = /(\d+) packets? dropped by kernel/.exec(this.#tcpdump.output().stderr)?.[1];
    if (lost !== undefined && lost !== '0') {
      throw new Error(`the capture ${this.path} misses ${lost} packets`);
    }
    return readFileSync(this.path);
  }

  /** The frames captured so far. */
  frames(): CapturedFrame[] {
    return decodePcap(readFileSync(this.path));
  }

  /** Waits until at least that many frames are there, and returns all. */
  waitForFrames(count: number, timeoutMs: number): Promise<CapturedFrame[]> {
    const until = (frames: CapturedFrame[]) => frames.length >= count;
    return waitFor(`${count} frames in ${this.path}`, () => this.frames(), { timeoutMs, until });
  }

  /**
   * Dissects the packets captured so far with tshark.
   *
   * @param fields names of Wireshark's fields, for example `ip.ttl`; a field that a packet does
   *   not have is '', one that it has several times is separated by commas
   * @param options `displayFilter` selects packets in Wireshark's language; `preferences` are
   *   its `-o` settings, for example `{ 'tcp.check_checksum': 'TRUE' }`
   */
  async packets<const F extends string>(
    fields: readonly F[],
    options: {
      displayFilter?: string;
      preferences?: Readonly<Record<string, string>>;
    } = {},
  ): Promise<Record<F, string>[]> {
    const argv: Argv = [
      'tshark',
      ...['-n', '-r', this.path, '-T', 'fields', '-E', 'separator=/t'],
      ...fields.flatMap((field) => ['-e', field]),
      ...Object.entries(options.preferences ?? {}).flatMap(([key, value]) => [
        '-o',
        `${key}:${value}`,
      ]),
      ...(options.displayFilter === undefined ? [] : ['-Y', options.displayFilter]),
    ];
    const result = await runCommand(argv, {
      timeoutMs: TSHARK_TIMEOUT_MS,
      outputBytesMax: 64 * 1024 * 1024,
    });
    if (!result.success || result.truncated) throw new Error(describeFailure(argv, result));
    const lines = result.stdout.split('\n').filter((line) => line !== '');
    return lines.map((line) => {
      const values = line.split('\t');
      const entries = fields.map((field, index) => [field, values[index] ?? '']);
      return Object.fromEntries(entries) as Record<F, string>;
    });
  }
}
