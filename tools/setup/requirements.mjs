/** What no set-up can bring along: the kind of machine, its kernel, and who runs this. */
import { existsSync } from 'node:fs';
import { release } from 'node:os';

/** @typedef {'run' | 'test' | 'check' | 'unit'} Purpose */

/** @type {readonly Purpose[]} */
export const purposes = ['run', 'test', 'check', 'unit'];

/** The oldest Node that runs the set-up itself; everything else runs on the pinned one. */
const NODE_MAJOR_MIN = 20;

/** Debian 12's kernel. The data plane is written for what this one has. */
const KERNEL_MIN = /** @type {const} */ ([6, 1]);

const KERNEL_TYPES_PATH = '/sys/kernel/btf/vmlinux';

/**
 * @typedef {object} Machine
 * @property {string} nodeVersion as in `20.11.1`
 * @property {string} platform as in `process.platform`
 * @property {string} architecture as in `process.arch`
 * @property {number} userId
 * @property {string} kernelRelease as `uname -r` prints it
 * @property {boolean} hasKernelTypes whether the kernel describes its types (BTF)
 */

/** @returns {Machine} */
export function thisMachine() {
  return {
    nodeVersion: process.versions.node,
    platform: process.platform,
    architecture: process.arch,
    userId: process.getuid?.() ?? -1,
    kernelRelease: release(),
    hasKernelTypes: existsSync(KERNEL_TYPES_PATH),
  };
}

/**
 * The first requirement that the machine does not meet, as a sentence for the person in front of
 * it; undefined when all is well.
 *
 * @param {Purpose} purpose
 * @param {Machine} machine
 * @returns {string | undefined}
 */
export function missingRequirement(purpose, machine) {
  if (Number.parseInt(machine.nodeVersion, 10) < NODE_MAJOR_MIN) {
    const { nodeVersion } = machine;
    return `Gatehouse's set-up needs Node ${NODE_MAJOR_MIN} or newer; this is ${nodeVersion}.`;
  }
  if (machine.platform !== 'linux') {
    return `Gatehouse runs on Linux only; this is ${machine.platform}.`;
  }
  if (machine.architecture !== 'x64' && machine.architecture !== 'arm64') {
    return `Gatehouse runs on x64 and arm64 processors; this is ${machine.architecture}.`;
  }
  if (purpose === 'check' || purpose === 'unit') return undefined;
  if (machine.userId !== 0) {
    return purpose === 'test'
      ? 'npm test needs root, since it makes network namespaces and loads programs into the ' +
          'kernel: run sudo npm test, or npm run test:unit for the tests that need no root.'
      : 'This needs root, since it makes network namespaces and loads programs into the kernel: ' +
          'run it again with sudo.';
  }
  const [major = 0, minor = 0] = machine.kernelRelease.split('.').map((part) => parseInt(part, 10));
  if (major < KERNEL_MIN[0] || (major === KERNEL_MIN[0] && minor < KERNEL_MIN[1])) {
    return (
      `Gatehouse needs Linux ${KERNEL_MIN.join('.')} or newer (Debian 12's kernel); ` +
      `this machine runs ${machine.kernelRelease}.`
    );
  }
  if (!machine.hasKernelTypes) {
    return (
      `Gatehouse needs a kernel that describes its types (BTF): ${KERNEL_TYPES_PATH} is missing. ` +
      "Debian's own kernels have it; a kernel built by hand needs CONFIG_DEBUG_INFO_BTF=y."
    );
  }
  return undefined;
}
