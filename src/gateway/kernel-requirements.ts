/** What the program asks of the kernel, and of its own rights there. */
import type { Attempt, BpfFacts, MachineFacts, PrivilegeFacts } from './machine-facts.ts';
import {
  installing,
  type Judgement,
  judgeAttempt,
  judgeProbed,
  met,
  type Requirement,
  unmet,
  untried,
} from './machine-requirement.ts';

/** Debian 12's kernel; the programs in the kernel are written for what it has. */
const KERNEL_MIN = [6, 1] as const;
/** From here on, memory of BPF counts in its control group and not against RLIMIT_MEMLOCK. */
const MEMORY_BY_GROUP_SINCE = [5, 11] as const;
/** For maps on older kernels: the largest tables and some room. */
const LOCKED_BYTES_MIN = 512 * 1024 * 1024;

const debianKernel = 'apt-get install linux-image-$(dpkg --print-architecture), then reboot';

export const kernelRequirements: readonly Requirement[] = [
  {
    name: 'kernel-version',
    requirement: `Linux ${KERNEL_MIN.join('.')} or newer`,
    otherwise: 'missing',
    judge: ({ kernelRelease }) =>
      isSince(kernelRelease, KERNEL_MIN)
        ? met(`Linux ${kernelRelease}`)
        : unmet(`this machine runs ${kernelRelease}`, debianKernel),
  },
  {
    name: 'kernel-types',
    requirement: 'a kernel that describes its types (BTF, /sys/kernel/btf/vmlinux)',
    otherwise: 'missing',
    judge: ({ hasKernelTypes }) =>
      judgeProbed(hasKernelTypes, (isThere) =>
        isThere
          ? met('/sys/kernel/btf/vmlinux is there')
          : unmet(
              '/sys/kernel/btf/vmlinux cannot be read',
              `Mount sysfs on /sys, or run Debian's own kernel: ${debianKernel}. One built by ` +
                'hand needs CONFIG_DEBUG_INFO_BTF=y.',
            ),
      ),
  },
  {
    name: 'rights',
    requirement: 'root, or the capabilities of a network administrator and for BPF',
    otherwise: 'missing',
    judge: ({ privileges }) => judgeProbed(privileges, judgeRights),
  },
  {
    name: 'bpf-library',
    requirement: 'libbpf.so.1, which loads programs into the kernel',
    otherwise: 'missing',
    judge: ({ bpf }) =>
      judgeProbed(bpf, ({ library }) =>
        library.success
          ? met('libbpf.so.1 can be loaded')
          : unmet(library.reason, installing('libbpf1')),
      ),
  },
  {
    name: 'bpf-objects',
    requirement: 'the compiled programs for the kernel (build/bpf)',
    otherwise: 'missing',
    judge: ({ bpf }) =>
      judgeProbed(bpf, ({ object }) =>
        judgeAttempt(object, {
          detail: 'they are there',
          reached: 'bpf-library',
          remedy: () =>
            'npm start, which builds them; or node tools/build-bpf.ts where Gatehouse lies.',
        }),
      ),
  },
  {
    name: 'bpf-programs',
    requirement: 'a kernel that takes our BPF programs',
    otherwise: 'missing',
    judge: (facts) =>
      judgeProbed(facts.bpf, ({ load }) =>
        judgeAttempt(load, {
          detail: 'the kernel took protocol-counters',
          reached: 'bpf-objects',
          remedy: (failure) => remedyOfRefusal(failure, facts),
        }),
      ),
  },
  {
    name: 'bpf-attachments',
    requirement: 'tc by tcx or clsact, where programs are attached to interfaces',
    otherwise: 'missing',
    judge: ({ bpf }) => judgeProbed(bpf, judgeAttachment),
  },
  {
    name: 'bpf-memory',
    requirement: 'memory for the tables of BPF programs',
    otherwise: 'missing',
    judge: judgeLockedMemory,
  },
  {
    name: 'bpf-compiler',
    requirement: 'BPF programs as machine code (JIT)',
    otherwise: 'limited',
    judge: judgeCompiler,
  },
  {
    name: 'bpf-pins',
    requirement: 'a bpffs at /sys/fs/bpf',
    otherwise: 'limited',
    judge: ({ hasBpffs }) =>
      judgeProbed(hasBpffs, (isThere) =>
        isThere
          ? met('it is mounted')
          : unmet(
              'there is none, so tables of a killed instance are found through the programs that ' +
                'it left attached, and by no other way',
              'mount -t bpf bpf /sys/fs/bpf',
            ),
      ),
  },
];

/** @param release as `uname -r` prints it: `6.1.0-40-amd64` */
function isSince(release: string, [wantedMajor, wantedMinor]: readonly [number, number]): boolean {
  const [, major = '0', minor = '0'] = /^(\d+)\.(\d+)/.exec(release) ?? [];
  if (Number(major) !== wantedMajor) return Number(major) > wantedMajor;
  return Number(minor) >= wantedMinor;
}

/** linux/capability.h */
const capabilityBits = {
  CAP_SETGID: 6n,
  CAP_SETUID: 7n,
  CAP_NET_ADMIN: 12n,
  CAP_SYS_ADMIN: 21n,
  CAP_PERFMON: 38n,
  CAP_BPF: 39n,
} as const;

type Capability = keyof typeof capabilityBits;

/** Any capability of a row will do: CAP_SYS_ADMIN includes what later became ones of their own. */
const neededCapabilities: readonly (readonly [Capability, ...Capability[]])[] = [
  ['CAP_NET_ADMIN'],
  ['CAP_BPF', 'CAP_SYS_ADMIN'],
  ['CAP_PERFMON', 'CAP_SYS_ADMIN'],
  // For roles, which give up all rights by becoming another account.
  ['CAP_SETUID'],
  ['CAP_SETGID'],
];

function judgeRights({ userId, capabilities }: PrivilegeFacts): Judgement {
  const has = (name: Capability) => ((capabilities >> capabilityBits[name]) & 1n) === 1n;
  const lacking = neededCapabilities.filter((row) => !row.some(has)).map(([first]) => first);
  const who = userId === 0 ? 'root' : `user ${userId}`;
  if (lacking.length === 0) return met(`${who} with all that is needed`);
  return unmet(
    `${who} without ${lacking.join(', ')}`,
    userId === 0
      ? `Give them back to whatever started this: in a container, ${lacking
          .map((name) => `--cap-add ${name.slice('CAP_'.length)}`)
          .join(' ')}; in a unit of systemd, CapabilityBoundingSet.`
      : 'Run it as root: sudo gatehouse …',
  );
}

/** A refusal has many fathers; the facts around it tell which one it is. */
function remedyOfRefusal(
  { code }: Extract<Attempt, { success: false }>,
  { privileges, kernelRelease }: MachineFacts,
): string {
  if (!isSince(kernelRelease, KERNEL_MIN)) return `Run a newer kernel: ${debianKernel}`;
  if (code !== 'EPERM' && code !== 'EACCES') {
    return 'Update kernel and Gatehouse; if it stays, report the words of the kernel above.';
  }
  if ('failure' in privileges) return 'Run it as root: sudo gatehouse …';
  const { isUnderSeccomp, isInUserNamespace } = privileges.value;
  if (!judgeRights(privileges.value).isMet) return 'First meet rights: that is what it lacks.';
  if (isInUserNamespace) {
    return "Run it outside of the user namespace: a rootless container's root may not use BPF.";
  }
  if (isUnderSeccomp) {
    return (
      'A seccomp filter forbids bpf(2): in a container, allow it (--security-opt with a profile ' +
      'that allows bpf); in a unit of systemd, add @privileged bpf to SystemCallFilter.'
    );
  }
  return (
    'The kernel forbids it to root: see whether it is locked down (cat ' +
    '/sys/kernel/security/lockdown) or a security module refuses it (journalctl -k).'
  );
}

function judgeAttachment({ load, attach, attachUntried }: BpfFacts): Judgement {
  const isLoaded = load?.success === true;
  if (isLoaded && attachUntried !== undefined) {
    return untried(
      `not tried, since no network namespace could be made for it: ${attachUntried}`,
      'Run gatehouse doctor as root with CAP_SYS_ADMIN; gatehouse run does without it.',
    );
  }
  return judgeAttempt(isLoaded ? attach : undefined, {
    detail: 'a program could be attached in a network namespace of its own',
    reached: 'bpf-programs',
    remedy: ({ code }) =>
      code === 'EPERM'
        ? 'First meet rights: CAP_NET_ADMIN is what it lacks.'
        : 'modprobe -a sch_ingress cls_bpf; a kernel built by hand needs CONFIG_NET_SCH_INGRESS ' +
          'and CONFIG_NET_CLS_BPF.',
  });
}

function judgeLockedMemory({ kernelRelease, lockedMemoryBytesMax }: MachineFacts): Judgement {
  if (isSince(kernelRelease, MEMORY_BY_GROUP_SINCE)) {
    return met('this kernel counts it in the control group, not as locked memory');
  }
  return judgeProbed(lockedMemoryBytesMax, (bytes) =>
    bytes >= LOCKED_BYTES_MIN
      ? met('enough memory may be locked')
      : unmet(
          `this kernel counts it as locked memory, of which ${bytes} bytes are allowed`,
          'ulimit -l unlimited; in a unit of systemd, LimitMEMLOCK=infinity',
        ),
  );
}

/** What became of our own program says more than the setting, where that cannot be seen. */
function judgeCompiler({ jitSetting, bpf }: MachineFacts): Judgement {
  const slow = 'BPF programs are interpreted, which makes them several times slower';
  const remedy = 'sysctl -w net.core.bpf_jit_enable=1';
  return judgeProbed(jitSetting, (setting) => {
    if (setting === '0') return unmet(`net.core.bpf_jit_enable is 0: ${slow}`, remedy);
    if (setting !== undefined) return met(`net.core.bpf_jit_enable is ${setting}`);
    const isCompiled = 'failure' in bpf ? undefined : bpf.value.isCompiled;
    if (isCompiled === true) return met('the kernel made machine code of our program');
    const reason = isCompiled === false ? slow : 'net.core.bpf_jit_enable cannot be seen from here';
    return unmet(reason, `${remedy} in the first network namespace`);
  });
}
