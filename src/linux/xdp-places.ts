/**
 * Our programs at XDP, where drivers run them natively: there is room for one an interface, so
 * nobody else's is ever replaced. They belong to the interface and outlive this process; ours are
 * known by their names.
 */
import { closeSync } from 'node:fs';
import type { BpfProgram } from './bpf-program.ts';
import { LinuxError } from './ffi.ts';
import { openProgram } from './kernel-objects.ts';
import { callLibbpf, libbpf, NativeStruct } from './libbpf.ts';
import type { NetworkLink } from './network-links.ts';

/** As the kernel keeps them: up to 15 characters. */
const ownNames = ['nat_wan_xdp', 'nat_inside_xdp'];

const XDP_FLAGS_UPDATE_IF_NOEXIST = 1 << 0;
const XDP_FLAGS_DRV_MODE = 1 << 2;
const XDP_FLAGS_REPLACE = 1 << 4;

/**
 * Puts a program there; one of ours is replaced in one step.
 *
 * @returns the name of somebody else's program, which stays; or undefined
 * @throws LinuxError when the driver refuses
 */
export function putAtXdp(program: BpfProgram, link: NetworkLink): string | undefined {
  const { index, name, xdpProgramId } = link;
  if (xdpProgramId === program.id) return undefined;
  const action = `attach ${program.name} to ${name} by native XDP`;
  const present = xdpProgramId === undefined ? undefined : openProgram(xdpProgramId);
  if (present === undefined) {
    const flags = XDP_FLAGS_DRV_MODE | XDP_FLAGS_UPDATE_IF_NOEXIST;
    callLibbpf(action, () => libbpf.bpf_xdp_attach(index, program.fd, flags, null));
    return undefined;
  }
  try {
    if (!ownNames.includes(present.name)) return present.name;
    const flags = XDP_FLAGS_DRV_MODE | XDP_FLAGS_REPLACE;
    const options = replacing(present.fd).bytes;
    callLibbpf(action, () => libbpf.bpf_xdp_attach(index, program.fd, flags, options));
    return undefined;
  } finally {
    closeSync(present.fd);
  }
}

/**
 * Takes a program of ours off, whichever process put it there.
 *
 * @throws LinuxError when the kernel refuses
 */
export function clearXdp({ index, name, xdpProgramId }: NetworkLink): void {
  const present = xdpProgramId === undefined ? undefined : openProgram(xdpProgramId);
  if (present === undefined) return;
  try {
    if (!ownNames.includes(present.name)) return;
    const flags = XDP_FLAGS_DRV_MODE | XDP_FLAGS_REPLACE;
    const options = replacing(present.fd).bytes;
    callLibbpf(`detach ${present.name} from ${name}`, () =>
      libbpf.bpf_xdp_detach(index, flags, options),
    );
  } catch (cause) {
    // It went away meanwhile.
    if (!(cause instanceof LinuxError && cause.code === 'ENODEV')) throw cause;
  } finally {
    closeSync(present.fd);
  }
}

/** `struct bpf_xdp_attach_opts`: size, old_prog_fd. The kernel compares before it exchanges. */
function replacing(fd: number): NativeStruct {
  return NativeStruct.sized(16).setU32(8, fd);
}
