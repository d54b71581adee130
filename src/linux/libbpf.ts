/**
 * libbpf's functions and structures as they are in C, and what it has to say when one fails.
 *
 * libbpf reports through a callback that is valid on the main thread only, so objects are opened,
 * loaded and attached there. Reading and updating maps and test runs work on every thread.
 */
import { isMainThread } from 'node:worker_threads';
import { addressOf, errno, LinuxError, openNativeLibrary, readString } from './ffi.ts';

const { functions, library } = openNativeLibrary(
  'libbpf.so.1',
  {
    libbpf_set_print: { arguments: ['pointer'], return: 'pointer' },
    libbpf_num_possible_cpus: { arguments: [], return: 'i32' },

    bpf_object__open_file: { arguments: ['string', 'pointer'], return: 'pointer' },
    bpf_object__load: { arguments: ['pointer'], return: 'i32' },
    bpf_object__close: { arguments: ['pointer'], return: 'void' },
    bpf_object__find_map_by_name: { arguments: ['pointer', 'string'], return: 'pointer' },
    bpf_object__find_program_by_name: { arguments: ['pointer', 'string'], return: 'pointer' },

    bpf_map__fd: { arguments: ['pointer'], return: 'i32' },
    bpf_map__key_size: { arguments: ['pointer'], return: 'u32' },
    bpf_map__value_size: { arguments: ['pointer'], return: 'u32' },
    bpf_map__max_entries: { arguments: ['pointer'], return: 'u32' },
    bpf_map__set_max_entries: { arguments: ['pointer', 'u32'], return: 'i32' },
    bpf_map__reuse_fd: { arguments: ['pointer', 'i32'], return: 'i32' },
    bpf_map__set_pin_path: { arguments: ['pointer', 'string'], return: 'i32' },

    bpf_program__fd: { arguments: ['pointer'], return: 'i32' },
    bpf_program__set_autoload: { arguments: ['pointer', 'i32'], return: 'i32' },
    bpf_prog_get_fd_by_id: { arguments: ['u32'], return: 'i32' },
    bpf_map_get_fd_by_id: { arguments: ['u32'], return: 'i32' },
    bpf_obj_pin: { arguments: ['i32', 'string'], return: 'i32' },
    bpf_obj_get_info_by_fd: { arguments: ['i32', 'buffer', 'buffer'], return: 'i32' },
    bpf_prog_test_run_opts: { arguments: ['i32', 'buffer'], return: 'i32' },

    bpf_map_lookup_elem: { arguments: ['i32', 'buffer', 'buffer'], return: 'i32' },
    bpf_map_update_elem: { arguments: ['i32', 'buffer', 'buffer', 'u64'], return: 'i32' },
    bpf_map_delete_elem: { arguments: ['i32', 'buffer'], return: 'i32' },
    bpf_map_lookup_batch: {
      arguments: ['i32', 'pointer', 'buffer', 'buffer', 'buffer', 'buffer', 'pointer'],
      return: 'i32',
    },
    bpf_map_update_batch: {
      arguments: ['i32', 'buffer', 'buffer', 'buffer', 'pointer'],
      return: 'i32',
    },
    bpf_map_delete_batch: { arguments: ['i32', 'buffer', 'buffer', 'pointer'], return: 'i32' },

    bpf_xdp_attach: { arguments: ['i32', 'i32', 'u32', 'pointer'], return: 'i32' },
    bpf_xdp_detach: { arguments: ['i32', 'u32', 'pointer'], return: 'i32' },
    bpf_tc_hook_create: { arguments: ['buffer'], return: 'i32' },
    bpf_tc_attach: { arguments: ['buffer', 'buffer'], return: 'i32' },
    bpf_tc_detach: { arguments: ['buffer', 'buffer'], return: 'i32' },
    bpf_tc_query: { arguments: ['buffer', 'buffer'], return: 'i32' },
  },
  'libbpf1',
);

export const libbpf = functions;

const { functions: libc } = openNativeLibrary(null, {
  vasprintf: { arguments: ['buffer', 'pointer', 'pointer'], return: 'i32' },
  free: { arguments: ['pointer'], return: 'void' },
});

/** Enough for a verifier's last words; what came before them is dropped. */
const MESSAGE_BYTES_MAX = 64 * 1024;
const LIBBPF_WARN = 0;

let messages = '';

function collectMessages(): void {
  const pointerHolder = new BigUint64Array(1);
  const print = library.registerCallback(
    { arguments: ['i32', 'pointer', 'pointer'], return: 'i32' },
    (level, format, variadicArguments) => {
      if (level !== LIBBPF_WARN) return 0;
      const bytes = new Uint8Array(pointerHolder.buffer);
      if (libc.vasprintf(bytes, format, variadicArguments) < 0) return 0;
      const text = pointerHolder[0] ?? 0n;
      messages = `${messages}${readString(text)}`.slice(-MESSAGE_BYTES_MAX);
      libc.free(text);
      return 0;
    },
  );
  functions.libbpf_set_print(print);
}

// The callback is the whole process's: a worker leaves it alone and calls nothing that reports.
if (isMainThread) collectMessages();

/** Lines of libbpf's report that an error carries; the cause stands at the verifier log's end. */
const REPORT_LINES_MAX = 40;

/**
 * Runs calls of libbpf and throws what it reported, if they fail.
 *
 * @param action completes "cannot …", with its input: `load build/bpf/nat.o`
 * @param call returns libbpf's result: negative errno, or NULL with errno set
 */
export function callLibbpf<T extends number | bigint>(action: string, call: () => T): T {
  messages = '';
  const result = call();
  const failed = typeof result === 'bigint' ? result === 0n : result < 0;
  if (!failed) return result;
  const errorNumber = typeof result === 'bigint' ? errno() : Number(result);
  throw new LinuxError(action, errorNumber, lastReport());
}

function lastReport(): string | undefined {
  const lines = messages.trimEnd().split('\n');
  if (messages.trim() === '') return undefined;
  const cut = lines.length - REPORT_LINES_MAX;
  const kept = lines.slice(-REPORT_LINES_MAX).join('\n');
  return cut > 0 ? `(${cut} lines before)\n${kept}` : kept;
}

/** Possible CPUs: the number of values that a per-CPU map holds for each key. */
export const possibleCpuCount = functions.libbpf_num_possible_cpus();

/**
 * A C structure of options, filled field by field. Sizes and offsets stand where the structure is
 * made, with its name in `bpf.h` or `libbpf.h`.
 */
export class NativeStruct {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly #view: DataView<ArrayBuffer>;
  /** Keeps alive what the structure points at. */
  readonly #referenced: Uint8Array<ArrayBuffer>[] = [];

  private constructor(sizeBytes: number) {
    this.bytes = new Uint8Array(sizeBytes);
    this.#view = new DataView(this.bytes.buffer);
  }

  static zeroed(sizeBytes: number): NativeStruct {
    return new NativeStruct(sizeBytes);
  }

  /** With its size in the first field (`sz`), as libbpf's options want it. */
  static sized(sizeBytes: number): NativeStruct {
    return new NativeStruct(sizeBytes).setU64(0, BigInt(sizeBytes));
  }

  setU32(offset: number, value: number): this {
    this.#view.setUint32(offset, value, true);
    return this;
  }

  getU32(offset: number): number {
    return this.#view.getUint32(offset, true);
  }

  setU64(offset: number, value: bigint): this {
    this.#view.setBigUint64(offset, value, true);
    return this;
  }

  getU64(offset: number): bigint {
    return this.#view.getBigUint64(offset, true);
  }

  setPointer(offset: number, target: Uint8Array<ArrayBuffer>): this {
    this.#referenced.push(target);
    return this.setU64(offset, addressOf(target));
  }
}
