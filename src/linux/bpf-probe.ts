/**
 * As a program: tries what the data plane needs of the kernel and prints the outcome as JSON
 * (BpfFacts). It is a process of its own, since nothing else can bound a call into libbpf or
 * survive one that crashes. Programs are loaded, attached in a network namespace of its own, and
 * gone when it ends.
 */
import { protocolCountersObject } from '../abi/protocol-counters.generated.ts';
import type { Attempt, BpfFacts } from '../gateway/machine-facts.ts';
import { errno, LinuxError, openNativeLibrary } from './ffi.ts';

async function probe(): Promise<BpfFacts> {
  const success = { success: true } as const;
  const libraries = await Promise.all([
    import('./attach.ts'),
    import('./bpf-object.ts'),
    import('./libbpf.ts'),
  ]).catch(failureOf);
  if ('success' in libraries) return { library: libraries };
  const [{ attachTc }, { loadBpfObject }, native] = libraries;
  const library = success;
  try {
    using object = loadBpfObject(protocolCountersObject);
    const program = object.programs.countProtocolsTcIngress;
    const loaded = {
      library,
      object: success,
      load: success,
      isCompiled: isCompiled(program.fd, native),
    };
    try {
      enterNetworkOfItsOwn();
    } catch (cause) {
      return { ...loaded, attachUntried: failureOf(cause).reason };
    }
    try {
      attachTc(program, { interface: 'lo' }, 'ingress');
      return { ...loaded, attach: success };
    } catch (cause) {
      return { ...loaded, attach: failureOf(cause) };
    }
  } catch (cause) {
    const failure = failureOf(cause);
    const isAbsent = failure.reason.startsWith('cannot open ');
    return isAbsent ? { library, object: failure } : { library, object: success, load: failure };
  }
}

type Failure = Extract<Attempt, { success: false }>;

function failureOf(cause: unknown): Failure {
  const reason = cause instanceof Error ? cause.message : String(cause);
  if (!(cause instanceof LinuxError)) return { success: false, reason };
  return { success: false, reason: withoutMiddle(reason), code: cause.code };
}

/** What was tried stands at the beginning of a verifier's report, and what is wrong at its end. */
function withoutMiddle(report: string): string {
  if (report.length <= REPORT_HEAD_CHARACTERS + REPORT_TAIL_CHARACTERS) return report;
  return `${report.slice(0, REPORT_HEAD_CHARACTERS)} … ${report.slice(-REPORT_TAIL_CHARACTERS)}`;
}

const REPORT_HEAD_CHARACTERS = 200;
const REPORT_TAIL_CHARACTERS = 600;

/** `jited_prog_len` of `struct bpf_prog_info` (linux/bpf.h), which is taken up to its name. */
function isCompiled(
  programFd: number,
  { libbpf, NativeStruct }: typeof import('./libbpf.ts'),
): boolean {
  const info = NativeStruct.zeroed(80);
  const lengthBytes = new Uint8Array(new Uint32Array([info.bytes.length]).buffer);
  const result = libbpf.bpf_obj_get_info_by_fd(programFd, info.bytes, lengthBytes);
  return result === 0 && info.getU32(16) > 0;
}

const CLONE_NEWNET = 0x4000_0000;

/** Only for this thread; the main thread calls libbpf. @throws LinuxError */
function enterNetworkOfItsOwn(): void {
  const { functions: libc } = openNativeLibrary(null, {
    unshare: { arguments: ['i32'], return: 'i32' },
  });
  if (libc.unshare(CLONE_NEWNET) !== 0) throw new LinuxError('make a network namespace', errno());
}

if (import.meta.main) process.stdout.write(`${JSON.stringify(await probe())}\n`);
