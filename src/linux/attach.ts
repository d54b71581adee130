/**
 * Attaches programs to interfaces: XDP (native where the driver can, else generic) and tc (tcx
 * where the kernel has it, else clsact). Attachments belong to the interface, not to this process:
 * they outlive it until somebody detaches them or the interface goes.
 *
 * An interface that moves to another network namespace takes programs at XDP and tcx with it, and
 * loses those at clsact.
 */
import type { BpfProgram } from './bpf-program.ts';
import {
  clearClsact,
  clsactProgramId,
  detachFromClsact,
  makeClsact,
  putAtClsact,
} from './clsact.ts';
import { LinuxError } from './ffi.ts';
import { callLibbpf, libbpf, NativeStruct } from './libbpf.ts';
import { inNetworkNamespace, interfaceIndex } from './libc.ts';
import {
  type TcDirection,
  type TcHookPoint,
  type TcPlace,
  tcPlaceOf,
  tcPlacesBefore,
} from './tc-places.ts';
import {
  clearTcx,
  detachFromTcx,
  hasTcx,
  mayFindOurs,
  putAtTcx,
  tcxProgramId,
  unlinkedPrograms,
} from './tcx.ts';

export { type TcDirection, type TcPlace, tcDirections } from './tc-places.ts';

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
  readonly hook: TcHook;
  /** Exchanges the program in one step, as above. */
  replace(program: BpfProgram): void;
  /** Takes the program off. Somebody else's program in its place stays and is an error. */
  detach(): void;
}

const XDP_FLAGS_UPDATE_IF_NOEXIST = 1 << 0;
const XDP_FLAGS_REPLACE = 1 << 4;
const xdpModeFlags = { generic: 1 << 1, native: 1 << 2 } as const;

const EBUSY = 16;
const EEXIST = 17;
const ENODEV = 19;
const EPERM = 1;

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

/** How a program is called: from the kernel's own list (Linux 6.6), or by a filter of clsact. */
export type TcHook = 'tcx' | 'clsact';

/**
 * Attaches a program in one of our places. A program of ours that is there already, by whichever
 * hook and of whichever process, is replaced without a gap.
 *
 * @param options.hook `tcx` and `clsact` insist and do not look at the other one, `auto` takes what
 * suits the kernel and what is attached already
 * @throws LinuxError when the kernel refuses, ENODEV when the interface does not exist
 */
export function attachTc(
  program: BpfProgram,
  target: InterfaceTarget,
  direction: TcDirection,
  place: TcPlace = 'counting',
  options: { readonly hook?: TcHook | 'auto' } = {},
): TcAttachment {
  let current = program;
  // From here on the interface is meant, whatever it will be called.
  const index = within(target, (found) => found);
  const point: TcHookPoint = { index, direction, interface: target.interface };
  const { hook: wanted = 'auto' } = options;
  const hook = wanted === 'auto' ? inside(target, () => chooseHook(program, place, point)) : wanted;
  const put = (next: BpfProgram): void => {
    if (tcPlaceOf(next.name) !== place) {
      throw new Error(`tc-places.ts does not name ${next.name} for ${place}: none would find it`);
    }
    inside(target, () => {
      if (hook === 'tcx') putAtTcx(next, place, point);
      else putAtClsact(next, place, point);
    });
    current = next;
  };
  inside(target, () => {
    if (hook === 'clsact') makeClsact(point);
  });
  put(program);
  inside(target, () => {
    if (wanted === 'auto' && hook === 'clsact' && isTcxUsable()) clearTcx(place, point);
  });
  return {
    direction,
    hook,
    replace: put,
    detach: () => {
      inside(target, () => {
        if (hook === 'tcx') detachFromTcx(current, place, point);
        else detachFromClsact(current, place, point);
      });
    },
  };
}

/**
 * tcx where the kernel has it, except where an older Gatehouse left a program at clsact. That one
 * is replaced where it stands, until the place is cleared: there is no step that takes a program
 * off one hook and puts one onto the other, so packets would meet none, or two. Two would be wrong
 * for the NAT: the second takes what the first has translated for a forged packet, and drops it.
 *
 * And what comes behind a place at clsact is put there as well, since packets meet tcx first.
 */
function chooseHook(program: BpfProgram, place: TcPlace, point: TcHookPoint): TcHook {
  if (!isTcxUsable()) {
    if (hasTcx()) requireNoneAtTcx(program, point);
    return 'clsact';
  }
  if (clsactProgramId(place, point) !== undefined) return 'clsact';
  if (tcxProgramId(place, point) !== undefined) return 'tcx';
  const isBehindClsact = tcPlacesBefore(place).some(
    (one) => clsactProgramId(one, point) !== undefined,
  );
  return isBehindClsact ? 'clsact' : 'tcx';
}

/** Without the right to find ours again, tcx would end with two of ours in a place. */
function isTcxUsable(): boolean {
  return hasTcx() && mayFindOurs();
}

function requireNoneAtTcx(program: BpfProgram, point: TcHookPoint): void {
  const [id] = unlinkedPrograms(point);
  if (id === undefined) return;
  const action = `attach ${program.name} to ${point.interface} at tc ${point.direction}`;
  const detail = `whether program ${id} there is ours is told with CAP_SYS_ADMIN alone`;
  throw new LinuxError(action, EPERM, detail);
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
    const point: TcHookPoint = { index, direction, interface: target.interface };
    // Where there are two, an older Gatehouse that does not know tcx attached the one at clsact
    // later.
    return (
      clsactProgramId(place, point) ?? (isTcxUsable() ? tcxProgramId(place, point) : undefined)
    );
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
    const point: TcHookPoint = { index, direction, interface: target.interface };
    const wasAtTcx = isTcxUsable() && clearTcx(place, point);
    return clearClsact(place, point) || wasAtTcx;
  });
}

function within<T>(target: InterfaceTarget, action: (interfaceIndex: number) => T): T {
  return inside(target, () => action(interfaceIndex(target.interface)));
}

function inside<T>({ networkNamespace }: InterfaceTarget, action: () => T): T {
  return networkNamespace === undefined ? action() : inNetworkNamespace(networkNamespace, action);
}
