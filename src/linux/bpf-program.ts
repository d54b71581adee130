/** A loaded BPF program: running it on a given packet, pinning it, its identity in the kernel. */
import { errno, LinuxError } from './ffi.ts';
import { callLibbpf, libbpf, NativeStruct } from './libbpf.ts';

export interface TestRunOptions {
  /** The packet from its Ethernet header on. Absent for programs of type syscall. */
  readonly data?: Uint8Array<ArrayBuffer>;
  /** The context: `struct xdp_md`, `struct __sk_buff`, or what a syscall program takes. */
  readonly context?: Uint8Array<ArrayBuffer>;
  /** How often the kernel runs it. With more than one, `durationNs` is the mean. */
  readonly repeat?: number;
  /**
   * XDP only: every run's verdict is carried out, so that redirected frames really leave. The call
   * blocks until all are sent.
   */
  readonly liveFrames?: { readonly batchSize: number };
}

export interface TestRunResult {
  /** The program's return value: XDP_PASS, TC_ACT_OK … */
  readonly returnValue: number;
  /** The packet after the program, empty with live frames and without data. */
  readonly data: Uint8Array<ArrayBuffer>;
  /** The context after the program, for syscall programs as they left it. */
  readonly context: Uint8Array<ArrayBuffer>;
  readonly durationNs: number;
}

/** Room for what a program puts in front of and behind a packet. */
const GROWTH_BYTES_MAX = 512;
const EINTR = 4;
const BPF_F_TEST_XDP_LIVE_FRAMES = 1 << 1;

export class BpfProgram {
  readonly name: string;
  #fd: number;

  /** @param fd negative when the program was left out of the load */
  constructor(name: string, fd: number) {
    this.name = name;
    this.#fd = fd;
  }

  /** @throws Error when there is none: the kernel takes a negative one for "detach" */
  get fd(): number {
    if (this.#fd < 0)
      throw new Error(`program ${this.name} is not loaded, or its object is closed`);
    return this.#fd;
  }

  /** The descriptor is closed: its number may soon be another's. */
  forget(): void {
    this.#fd = -1;
  }

  /**
   * `BPF_PROG_TEST_RUN`: the program as the kernel would run it, on bytes of ours. Repeated runs
   * that a signal interrupts (a child's end, for one) start again, so the program may have run more
   * often than asked for.
   *
   * @throws LinuxError EINTR when a signal cuts live frames short: some were sent
   */
  testRun(options: TestRunOptions): TestRunResult {
    const live = options.liveFrames !== undefined;
    const input = options.data;
    const output = new Uint8Array(live || !input ? 0 : input.length + GROWTH_BYTES_MAX);
    const context = new Uint8Array(options.context ?? []);
    const run = testRunOptions({ input, output, context, live });
    if (options.repeat !== undefined) run.setU32(60, options.repeat);
    if (live) run.setU32(68, BPF_F_TEST_XDP_LIVE_FRAMES);
    if (options.liveFrames) run.setU32(76, options.liveFrames.batchSize);

    let result: number;
    do {
      result = libbpf.bpf_prog_test_run_opts(this.fd, run.bytes);
    } while (result === -EINTR && !live);
    if (result < 0) throw new LinuxError(`run program ${this.name} on a test packet`, result);
    return {
      returnValue: run.getU32(56),
      data: output.slice(0, run.getU32(28)),
      context,
      durationNs: run.getU32(64),
    };
  }

  /** Keeps the program in the kernel under a path of a bpffs. */
  pin(path: string): void {
    callLibbpf(`pin program ${this.name} at ${path}`, () => libbpf.bpf_obj_pin(this.fd, path));
  }

  /** The kernel's number for the loaded program, as `bpftool prog` and `ip link` show it. */
  get id(): number {
    // struct bpf_prog_info: __u32 type, id; a shorter buffer than the whole is allowed.
    const info = new Uint8Array(8);
    const lengthBytes = new Uint8Array(new Uint32Array([info.length]).buffer);
    if (libbpf.bpf_obj_get_info_by_fd(this.fd, info, lengthBytes) !== 0) {
      throw new LinuxError(`ask for the id of program ${this.name}`, errno());
    }
    return new DataView(info.buffer).getUint32(4, true);
  }
}

/** `struct bpf_test_run_opts` of bpf/bpf.h, 80 bytes. */
function testRunOptions(parts: {
  input: Uint8Array<ArrayBuffer> | undefined;
  output: Uint8Array<ArrayBuffer>;
  context: Uint8Array<ArrayBuffer>;
  live: boolean;
}): NativeStruct {
  const { input, output, context, live } = parts;
  const options = NativeStruct.sized(80);
  if (input !== undefined) {
    options.setPointer(8, input).setU32(24, input.length);
    if (!live) options.setPointer(16, output).setU32(28, output.length);
  }
  if (context.length > 0) {
    options.setPointer(32, context).setU32(48, context.length);
    // Syscall programs write into the context they were given; the others have a copy for it.
    if (input !== undefined && !live) options.setPointer(40, context).setU32(52, context.length);
  }
  return options;
}
