/**
 * Attaches programs to interfaces: XDP (native where the driver can, else generic) and tc (clsact,
 * which Linux 6.1 has; tcx needs 6.6). Attachments belong to the interface, not to this process:
 * they outlive it until somebody detaches them or the interface goes.
 */
import type { BpfProgram } from './bpf-program.ts';
import { LinuxError } from './ffi.ts';
import { callLibbpf, libbpf, NativeStruct } from './libbpf.ts';
import { inNetworkNamespace, interfaceIndex } from './libc.ts';

/** An interface by name, in this thread's network namespace or the one that the path names. */
export interface InterfaceTarget {
  readonly interface: string;
  readonly networkNamespace?: string;
}

export type XdpMode = 'native' | 'generic';

export interface XdpAttachment {
  readonly mode: XdpMode;
  /** Why it is generic although native was preferred: the driver's answer. */
  readonly fallbackReason?: string;
  /** Exchanges the program in one step; no packet meets an interface without one. */
  replace(program: BpfProgram): void;
  /** Takes the program off. Somebody else's program in its place stays and is an error. */
  detach(): void;
}

export interface TcAttachment {
  readonly direction: TcDirection;
  replace(program: BpfProgram): void;
  detach(): void;
}

const XDP_FLAGS_UPDATE_IF_NOEXIST = 1 << 0;
const XDP_FLAGS_REPLACE = 1 << 4;
const xdpModeFlags = { generic: 1 << 1, native: 1 << 2 } as const;

const EBUSY = 16;
const EEXIST = 17;
const ENODEV = 19;
const ENOENT = 2;

/**
 * @param options.mode `native` and `generic` insist, `auto` prefers native
 * @throws LinuxError EBUSY or EEXIST when the interface has an XDP program already, ENODEV when it
 * does not exist
 */
export function attachXdp(
  program: BpfProgram,
  target: InterfaceTarget,
  options: { readonly mode?: XdpMode | 'auto' } = {},
): XdpAttachment {
  const { mode = 'auto' } = options;
  if (mode !== 'auto') return attachXdpIn(mode, program, target);
  try {
    return attachXdpIn('native', program, target);
  } catch (error) {
    if (!(error instanceof LinuxError) || [EBUSY, EEXIST, ENODEV].includes(error.errno))
      throw error;
    return { ...attachXdpIn('generic', program, target), fallbackReason: error.message };
  }
}

function attachXdpIn(mode: XdpMode, first: BpfProgram, target: InterfaceTarget): XdpAttachment {
  const modeFlag = xdpModeFlags[mode];
  let current = first;
  within(target, (index) => {
    callLibbpf(`attach ${first.name} to ${target.interface} by ${mode} XDP`, () =>
      libbpf.bpf_xdp_attach(index, first.fd, modeFlag | XDP_FLAGS_UPDATE_IF_NOEXIST, null),
    );
  });
  return {
    mode,
    replace: (next) => {
      within(target, (index) => {
        callLibbpf(`replace ${current.name} by ${next.name} on ${target.interface}`, () => {
          const flags = modeFlag | XDP_FLAGS_REPLACE;
          return libbpf.bpf_xdp_attach(index, next.fd, flags, replacing(current).bytes);
        });
      });
      current = next;
    },
    detach: () => {
      within(target, (index) => {
        callLibbpf(`detach ${current.name} from ${target.interface}`, () =>
          libbpf.bpf_xdp_detach(index, modeFlag | XDP_FLAGS_REPLACE, replacing(current).bytes),
        );
      });
    },
  };
}

/** `struct bpf_xdp_attach_opts`: size, old_prog_fd. The kernel compares before it exchanges. */
function replacing(program: BpfProgram): NativeStruct {
  return NativeStruct.sized(16).setU32(8, program.fd);
}

const tcAttachPoints = { ingress: 1, egress: 2 } as const;
const BPF_TC_F_REPLACE = 1;

/**
 * Our places among the filters of an interface, in the order in which packets meet them: a low
 * priority number runs early, and a fixed handle lets the next process find and replace what this
 * one attached.
 */
export const tcPlaces = {
  counting: { priority: 1, handle: 0x6761 },
  nat: { priority: 2, handle: 0x6762 },
  /** On the interface of held fragments alone. */
  fragments: { priority: 3, handle: 0x6763 },
} as const;

export type TcPlace = keyof typeof tcPlaces;
export const tcDirections = ['ingress', 'egress'] as const;
export type TcDirection = (typeof tcDirections)[number];

/**
 * Attaches a program to clsact, which is made when it is missing and left in place afterwards:
 * other programs may have joined it. A program of ours that is there already is replaced without a
 * gap.
 */
export function attachTc(
  program: BpfProgram,
  target: InterfaceTarget,
  direction: TcDirection,
  place: TcPlace = 'counting',
): TcAttachment {
  let current = program;
  // From here on the interface is meant, whatever it will be called.
  const index = within(target, (found) => found);
  const put = (next: BpfProgram): void => {
    inside(target, () => {
      const options = tcOptions(place).setU32(8, next.fd).setU32(12, BPF_TC_F_REPLACE);
      callLibbpf(`attach ${next.name} to ${target.interface} at tc ${direction}`, () =>
        libbpf.bpf_tc_attach(tcHook(index, direction).bytes, options.bytes),
      );
      if (direction === 'egress')
        requireClsact(next, { index, place, interface: target.interface });
    });
    current = next;
  };
  inside(target, () => {
    const created = libbpf.bpf_tc_hook_create(tcHook(index, direction).bytes);
    if (created < 0 && created !== -EEXIST) {
      throw new LinuxError(`add clsact to ${target.interface}`, created);
    }
  });
  put(program);
  return {
    direction,
    replace: put,
    detach: () => {
      inside(target, () => {
        requireOwn(current, { index, direction, place, interface: target.interface });
        callLibbpf(`detach ${current.name} from ${target.interface}`, () =>
          libbpf.bpf_tc_detach(tcHook(index, direction).bytes, tcOptions(place).bytes),
        );
      });
    },
  };
}

/**
 * The older qdisc `ingress` stands in the same place as clsact and takes programs for egress, but
 * runs them at ingress.
 */
function requireClsact(
  program: BpfProgram,
  where: { readonly index: number; readonly place: TcPlace; readonly interface: string },
): void {
  const hook = tcHook(where.index, 'ingress').bytes;
  const found = tcOptions(where.place);
  if (libbpf.bpf_tc_query(hook, found.bytes) < 0 || found.getU32(16) !== program.id) return;
  libbpf.bpf_tc_detach(hook, tcOptions(where.place).bytes);
  const action = `attach ${program.name} to ${where.interface} at tc egress`;
  throw new LinuxError(action, EBUSY, 'its qdisc ingress is in the place of clsact');
}

/**
 * The kernel's number of the program in our place, whichever process attached it.
 *
 * @returns undefined when there is none
 */
export function attachedTcProgramId(
  target: InterfaceTarget,
  direction: TcDirection,
  place: TcPlace = 'counting',
): number | undefined {
  return within(target, (index) => {
    const found = tcOptions(place);
    const result = libbpf.bpf_tc_query(tcHook(index, direction).bytes, found.bytes);
    return result < 0 ? undefined : found.getU32(16);
  });
}

/**
 * Takes off what stands in one of our places, whichever process attached it.
 *
 * @returns whether there was something
 */
export function clearTcPlace(
  target: InterfaceTarget,
  direction: TcDirection,
  place: TcPlace,
): boolean {
  return within(target, (index) => {
    const hook = tcHook(index, direction).bytes;
    if (libbpf.bpf_tc_query(hook, tcOptions(place).bytes) < 0) return false;
    callLibbpf(`detach what does ${place} from ${target.interface} at tc ${direction}`, () =>
      libbpf.bpf_tc_detach(hook, tcOptions(place).bytes),
    );
    return true;
  });
}

/** tc detaches by place alone: look whether the program there is still ours. */
function requireOwn(
  program: BpfProgram,
  where: { index: number; direction: TcDirection; place: TcPlace; interface: string },
): void {
  const { index, direction, place } = where;
  const found = tcOptions(place);
  const action = `detach ${program.name} from ${where.interface} at tc ${direction}`;
  callLibbpf(action, () => libbpf.bpf_tc_query(tcHook(index, direction).bytes, found.bytes));
  const foundId = found.getU32(16);
  if (foundId !== program.id) {
    throw new LinuxError(action, ENOENT, `program ${foundId} stands in its place`);
  }
}

/** `struct bpf_tc_hook`: size, ifindex, attach_point, parent. */
function tcHook(index: number, direction: TcDirection): NativeStruct {
  return NativeStruct.sized(24).setU32(8, index).setU32(12, tcAttachPoints[direction]);
}

/** `struct bpf_tc_opts`: size, prog_fd, flags, prog_id, handle, priority. */
function tcOptions(place: TcPlace): NativeStruct {
  const { handle, priority } = tcPlaces[place];
  return NativeStruct.sized(32).setU32(20, handle).setU32(24, priority);
}

function within<T>(target: InterfaceTarget, action: (interfaceIndex: number) => T): T {
  return inside(target, () => action(interfaceIndex(target.interface)));
}

function inside<T>({ networkNamespace }: InterfaceTarget, action: () => T): T {
  return networkNamespace === undefined ? action() : inNetworkNamespace(networkNamespace, action);
}
