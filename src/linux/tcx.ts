/**
 * tcx: the kernel's own list of programs at an interface's ingress and egress, since Linux 6.6. It
 * calls them without the classifier that stands before each one at clsact, and packets meet its
 * list before clsact's filters.
 *
 * Programs are attached for themselves and not by a link, so they stay when their process ends. As
 * tcx has no handles, ours are found again by their names. A program that is there by a link is
 * somebody else's, whatever its name.
 */
import { closeSync } from 'node:fs';
import type { BpfProgram } from './bpf-program.ts';
import { bpfSystemCall } from './bpf-system-call.ts';
import { LinuxError } from './ffi.ts';
import { openProgram } from './kernel-objects.ts';
import { libbpf, NativeStruct } from './libbpf.ts';
import { isBefore, type TcHookPoint, type TcPlace, tcPlaceOf } from './tc-places.ts';

/** `enum bpf_cmd` */
const BPF_PROG_ATTACH = 8;
const BPF_PROG_DETACH = 9;
const BPF_PROG_QUERY = 16;

/** BPF_TCX_INGRESS and BPF_TCX_EGRESS of `enum bpf_attach_type`. */
const attachTypes = { ingress: 46, egress: 47 } as const;

const BPF_F_REPLACE = 1 << 2;
const BPF_F_BEFORE = 1 << 3;
const BPF_F_AFTER = 1 << 4;

const ENOENT = 2;
const EPERM = 1;
const EEXIST = 17;
const ENODEV = 19;
const ERANGE = 34;
const ESTALE = 116;

/** The kernel takes 63 at one hook (BPF_MPROG_MAX); with room for a later one that takes more. */
const PROGRAM_COUNT_MAX = 256;

/** Each loss means that somebody else's change came in between. */
const PUT_ATTEMPTS_MAX = 32;

let isKnownToBeThere: boolean | undefined;

/**
 * Whether the kernel has tcx. Asked once: an attach type that it does not know is EINVAL, and a
 * known one is looked for on interface 0, which never exists.
 */
export function hasTcx(): boolean {
  if (isKnownToBeThere !== undefined) return isKnownToBeThere;
  const result = bpfSystemCall(BPF_PROG_QUERY, queryOf({ index: 0, direction: 'ingress' }));
  // Without rights nothing is known, and the other way is refused for the same reason.
  if (result === -EPERM) return false;
  isKnownToBeThere = result === -ENODEV;
  return isKnownToBeThere;
}

/**
 * Whether programs of ours could be found again by their names: the kernel opens programs by their
 * numbers for CAP_SYS_ADMIN alone. There is none of number 0.
 */
export function mayFindOurs(): boolean {
  return libbpf.bpf_prog_get_fd_by_id(0) !== -EPERM;
}

/**
 * Numbers of programs that may be ours: those that no link holds.
 *
 * @throws LinuxError when the kernel does not tell
 */
export function unlinkedPrograms(point: TcHookPoint): number[] {
  return query(point).ids;
}

/**
 * Puts a program into a place, in one step if one stands there. Where none does, it comes behind
 * ours of the places before and in front of all others.
 *
 * @throws LinuxError ERANGE when the interface has as many programs as the kernel allows, ENODEV
 * when it has gone
 */
export function putAtTcx(program: BpfProgram, place: TcPlace, point: TcHookPoint): void {
  for (let attempt = 1; ; attempt++) {
    const result = withOurs(point, (ours) => tryToPut(program, { place, point, ours }));
    if (result >= 0) break;
    if (isOvertaken(result) && attempt < PUT_ATTEMPTS_MAX) continue;
    const detail =
      result === -ERANGE ? 'as many programs as the kernel allows are there already' : undefined;
    const action = `attach ${program.name} to ${point.interface} at tc ${point.direction}`;
    throw new LinuxError(action, result, detail);
  }
  takeOffTwins(program, place, point);
}

/** Somebody changed the hook since we looked. Its revisions start anew when it was empty. */
function isOvertaken(result: number): boolean {
  return [ESTALE, ENOENT, EEXIST].includes(-result);
}

/** @returns zero or the negative errno */
function tryToPut(
  program: BpfProgram,
  where: { readonly place: TcPlace; readonly point: TcHookPoint; readonly ours: Ours },
): number {
  const { place, point, ours } = where;
  const { id } = program;
  const before = ours.programs.filter((one) => one.place === place);
  if (before.some((one) => one.id === id)) return 0;
  const attributes = attachmentOf(program.fd, point).setU64(24, ours.revision);
  const [replaced] = before;
  const previous = ours.programs.findLast((one) => isBefore(one.place, place));
  if (replaced !== undefined) attributes.setU32(12, BPF_F_REPLACE).setU32(16, replaced.fd);
  else if (previous !== undefined) attributes.setU32(12, BPF_F_AFTER).setU32(20, previous.fd);
  else attributes.setU32(12, BPF_F_BEFORE);
  return bpfSystemCall(BPF_PROG_ATTACH, attributes);
}

/** Two instances at once may have left more than one. Where ours is replaced already, all stay. */
function takeOffTwins(program: BpfProgram, place: TcPlace, point: TcHookPoint): void {
  const takeOffOne = ({ programs, revision }: Ours): boolean => {
    const here = programs.filter((one) => one.place === place);
    const twin = here.find((one) => one.id !== program.id);
    if (twin === undefined || here.every((one) => one.id !== program.id)) return false;
    const attributes = attachmentOf(twin.fd, point).setU64(24, revision);
    const result = bpfSystemCall(BPF_PROG_DETACH, attributes);
    return result >= 0 || isOvertaken(result);
  };
  for (let attempt = 1; attempt <= PUT_ATTEMPTS_MAX; attempt++) {
    if (!withOurs(point, takeOffOne)) return;
  }
}

/** The kernel's number of the program in a place. @returns undefined when there is none */
export function tcxProgramId(place: TcPlace, point: TcHookPoint): number | undefined {
  return withOurs(point, ({ programs }) => programs.find((one) => one.place === place)?.id);
}

/** Takes off what stands in a place. @returns whether there was something */
export function clearTcx(place: TcPlace, point: TcHookPoint): boolean {
  return withOurs(point, ({ programs }) => {
    const found = programs.filter((one) => one.place === place);
    for (const { fd } of found) {
      const result = bpfSystemCall(BPF_PROG_DETACH, attachmentOf(fd, point));
      // It, or its interface, went away meanwhile.
      if (result >= 0 || result === -ENOENT || result === -ENODEV) continue;
      const action = `detach what does ${place} from ${point.interface} at tc ${point.direction}`;
      throw new LinuxError(action, result);
    }
    return found.length > 0;
  });
}

/** @throws LinuxError ENOENT when it is not there any more; what stands in its place stays */
export function detachFromTcx(program: BpfProgram, place: TcPlace, point: TcHookPoint): void {
  const result = bpfSystemCall(BPF_PROG_DETACH, attachmentOf(program.fd, point));
  if (result >= 0) return;
  const foundId = result === -ENOENT ? tcxProgramId(place, point) : undefined;
  const detail = foundId === undefined ? undefined : `program ${foundId} stands in its place`;
  const action = `detach ${program.name} from ${point.interface} at tc ${point.direction}`;
  throw new LinuxError(action, result, detail);
}

interface OurProgram {
  readonly id: number;
  readonly fd: number;
  readonly place: TcPlace;
}

interface Ours {
  /** In the order in which packets meet them. */
  readonly programs: readonly OurProgram[];
  /** Of the whole hook: the kernel refuses a change that was thought out for an older one. */
  readonly revision: bigint;
}

/** What of the hook is ours; the descriptors are open during the action. */
function withOurs<T>(point: TcHookPoint, action: (ours: Ours) => T): T {
  const { ids, revision } = query(point);
  const programs: OurProgram[] = [];
  try {
    for (const id of ids) {
      const program = openProgram(id);
      if (program === undefined) continue;
      const place = tcPlaceOf(program.name);
      if (place === undefined) closeSync(program.fd);
      else programs.push({ id, fd: program.fd, place });
    }
    return action({ programs, revision });
  } finally {
    for (const { fd } of programs) closeSync(fd);
  }
}

function query(point: TcHookPoint): { readonly ids: number[]; readonly revision: bigint } {
  const programIds = new Uint32Array(PROGRAM_COUNT_MAX);
  const linkIds = new Uint32Array(PROGRAM_COUNT_MAX);
  const attributes = queryOf(point)
    .setPointer(16, new Uint8Array(programIds.buffer))
    .setU32(24, PROGRAM_COUNT_MAX)
    .setPointer(40, new Uint8Array(linkIds.buffer));
  const result = bpfSystemCall(BPF_PROG_QUERY, attributes);
  // Nothing is on an interface that has gone. Early kernels say ENOENT where nothing ever was.
  if (result === -ENODEV || result === -ENOENT) return { ids: [], revision: 0n };
  if (result < 0) {
    const action = `ask which programs are on ${point.interface} at tc ${point.direction}`;
    throw new LinuxError(action, result);
  }
  const all = [...programIds.subarray(0, attributes.getU32(24))];
  const ids = all.filter((_id, position) => linkIds[position] === 0);
  return { ids, revision: attributes.getU64(56) };
}

/** `union bpf_attr` for BPF_PROG_QUERY: ifindex, type, flags, ids, count, links, revision. */
function queryOf({ index, direction }: Omit<TcHookPoint, 'interface'>): NativeStruct {
  return NativeStruct.zeroed(64).setU32(0, index).setU32(4, attachTypes[direction]);
}

/**
 * `union bpf_attr` for BPF_PROG_ATTACH and BPF_PROG_DETACH: target_ifindex, attach_bpf_fd,
 * attach_type, attach_flags, replace_bpf_fd, relative_fd, expected_revision.
 */
function attachmentOf(programFd: number, { index, direction }: TcHookPoint): NativeStruct {
  const type = attachTypes[direction];
  return NativeStruct.zeroed(32).setU32(0, index).setU32(4, programFd).setU32(8, type);
}
