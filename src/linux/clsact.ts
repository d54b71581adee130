/**
 * tc programs as filters of clsact, which every kernel has that Gatehouse runs on. A place of ours
 * is a priority and a handle. The qdisc is made when it is missing and left where it is afterwards:
 * other programs may have joined it.
 */
import type { BpfProgram } from './bpf-program.ts';
import { LinuxError } from './ffi.ts';
import { callLibbpf, libbpf, NativeStruct } from './libbpf.ts';
import { type TcHookPoint, type TcPlace, tcPlaces } from './tc-places.ts';

const attachPoints = { ingress: 1, egress: 2 } as const;
const BPF_TC_F_REPLACE = 1;

const EBUSY = 16;
const EEXIST = 17;
const ENOENT = 2;

/** @throws LinuxError when the kernel refuses */
export function makeClsact(point: TcHookPoint): void {
  const created = libbpf.bpf_tc_hook_create(tcHook(point).bytes);
  if (created < 0 && created !== -EEXIST) {
    throw new LinuxError(`add clsact to ${point.interface}`, created);
  }
}

/**
 * Puts a program into a place, in one step if one stands there.
 *
 * @throws LinuxError EBUSY when an older qdisc stands in the place of clsact
 */
export function putAtClsact(program: BpfProgram, place: TcPlace, point: TcHookPoint): void {
  const options = tcOptions(place).setU32(8, program.fd).setU32(12, BPF_TC_F_REPLACE);
  const action = `attach ${program.name} to ${point.interface} at tc ${point.direction}`;
  callLibbpf(action, () => libbpf.bpf_tc_attach(tcHook(point).bytes, options.bytes));
  if (point.direction === 'egress') requireClsact(program, { action, index: point.index, place });
}

/**
 * The older qdisc `ingress` stands in the same place as clsact and takes programs for egress, but
 * runs them at ingress.
 */
function requireClsact(
  program: BpfProgram,
  where: { readonly action: string; readonly index: number; readonly place: TcPlace },
): void {
  const hook = tcHook({ index: where.index, direction: 'ingress' }).bytes;
  const found = tcOptions(where.place);
  if (libbpf.bpf_tc_query(hook, found.bytes) < 0 || found.getU32(16) !== program.id) return;
  libbpf.bpf_tc_detach(hook, tcOptions(where.place).bytes);
  throw new LinuxError(where.action, EBUSY, 'its qdisc ingress is in the place of clsact');
}

/** The kernel's number of the program in a place. @returns undefined when there is none */
export function clsactProgramId(place: TcPlace, point: TcHookPoint): number | undefined {
  const found = tcOptions(place);
  const result = libbpf.bpf_tc_query(tcHook(point).bytes, found.bytes);
  return result < 0 ? undefined : found.getU32(16);
}

/** Takes off what stands in a place. @returns whether there was something */
export function clearClsact(place: TcPlace, point: TcHookPoint): boolean {
  if (clsactProgramId(place, point) === undefined) return false;
  const action = `detach what does ${place} from ${point.interface} at tc ${point.direction}`;
  callLibbpf(action, () => libbpf.bpf_tc_detach(tcHook(point).bytes, tcOptions(place).bytes));
  return true;
}

/** @throws LinuxError ENOENT when it does not stand there any more; what does stays */
export function detachFromClsact(program: BpfProgram, place: TcPlace, point: TcHookPoint): void {
  const action = `detach ${program.name} from ${point.interface} at tc ${point.direction}`;
  const options = tcOptions(place);
  const hook = tcHook(point);
  // The kernel detaches by place alone, so look first whose program is there.
  callLibbpf(action, () => libbpf.bpf_tc_query(hook.bytes, options.bytes));
  const foundId = options.getU32(16);
  if (foundId !== program.id) {
    throw new LinuxError(action, ENOENT, `program ${foundId} stands in its place`);
  }
  callLibbpf(action, () => libbpf.bpf_tc_detach(hook.bytes, tcOptions(place).bytes));
}

/** `struct bpf_tc_hook`: size, ifindex, attach_point, parent. */
function tcHook({ index, direction }: Omit<TcHookPoint, 'interface'>): NativeStruct {
  return NativeStruct.sized(24).setU32(8, index).setU32(12, attachPoints[direction]);
}

/** `struct bpf_tc_opts`: size, prog_fd, flags, prog_id, handle, priority. */
function tcOptions(place: TcPlace): NativeStruct {
  const { handle, priority } = tcPlaces[place];
  return NativeStruct.sized(32).setU32(20, handle).setU32(24, priority);
}
