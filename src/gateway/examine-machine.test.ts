import assert from 'node:assert/strict';
import { test } from 'node:test';
import { judgeMachine, machineRequirements } from './examine-machine.ts';
import type { MachineFacts } from './machine-facts.ts';
import type { MachineFinding } from './machine-finding.ts';

const MEBIBYTE = 1024 * 1024;
const success = { success: true } as const;

/** Debian 12 on a disk with room, as root. */
const sound: MachineFacts = {
  kernelRelease: '6.1.0-40-amd64',
  hasKernelTypes: { value: true },
  privileges: {
    value: {
      userId: 0,
      capabilities: 0x1ff_ffff_ffffn,
      isUnderSeccomp: false,
      isInUserNamespace: false,
    },
  },
  bpf: {
    value: { library: success, object: success, load: success, isCompiled: true, attach: success },
  },
  jitSetting: { value: '1' },
  hasBpffs: { value: true },
  nftVersion: { value: '1.0.6' },
  nftRuleset: { value: { check: success, lacking: [] } },
  otherFirewalls: { value: [] },
  hasProtocolNames: { value: true },
  setpriv: { value: success },
  hasAccount: { value: true },
  stateFolder: {
    value: {
      place: '/var/lib',
      write: success,
      freeBytes: 64 * MEBIBYTE,
      freeInodes: 256,
      isInMemory: false,
    },
  },
  runtimeFolder: {
    value: { folder: '/run/gatehouse', place: '/run', socket: success, lock: success },
  },
  forwardingSetting: { value: success },
  openFilesMax: { value: 1024 },
  lockedMemoryBytesMax: { value: 64 * 1024 },
  memoryBytesMax: { value: undefined },
  year: 2026,
};

function find(name: string, change: Partial<MachineFacts>): MachineFinding {
  const finding = judgeMachine({ ...sound, ...change }).find((one) => one.name === name);
  return finding ?? assert.fail(`no finding ${name}`);
}

function failure(reason: string, code?: string) {
  return { success: false, reason, ...(code === undefined ? {} : { code }) } as const;
}

function withoutRights(...names: readonly bigint[]): Partial<MachineFacts> {
  const known = sound.privileges.value ?? assert.fail();
  const taken = names.reduce((sum, bit) => sum | (1n << bit), 0n);
  return { privileges: { value: { ...known, capabilities: known.capabilities & ~taken } } };
}

function withState(change: object): Partial<MachineFacts> {
  const value = sound.stateFolder.value ?? assert.fail();
  return { stateFolder: { value: { ...value, ...change } } };
}

function withRuntime(change: object): Partial<MachineFacts> {
  const value = sound.runtimeFolder.value ?? assert.fail();
  return { runtimeFolder: { value: { ...value, ...change } } };
}

function withBpf(change: object): Partial<MachineFacts> {
  return { bpf: { value: { library: success, object: success, load: success, ...change } } };
}

type Case = readonly [
  name: string,
  change: Partial<MachineFacts>,
  verdict: 'missing' | 'limited',
  detail: RegExp,
  remedy: RegExp,
];

const refusal = failure('cannot load x.o: EPERM', 'EPERM');
const cases: readonly Case[] = [
  ['kernel-version', { kernelRelease: '5.4.0-150-generic' }, 'missing', /runs 5\.4/, /apt-get/],
  ['kernel-version', { kernelRelease: '6.0.9' }, 'missing', /runs 6\.0\.9/, /linux-image/],
  ['kernel-types', { hasKernelTypes: { value: false } }, 'missing', /cannot be read/, /BTF=y/],
  ['rights', withoutRights(12n), 'missing', /root without CAP_NET_ADMIN$/, /--cap-add NET_ADMIN;/],
  ['rights', withoutRights(21n, 39n), 'missing', /without CAP_BPF$/, /--cap-add BPF;/],
  ['rights', withoutRights(21n, 38n), 'missing', /without CAP_PERFMON$/, /--cap-add PERFMON;/],
  ['rights', withoutRights(6n, 7n), 'missing', /CAP_SETUID, CAP_SETGID$/, /--cap-add SETUID/],
  [
    'rights',
    {
      privileges: {
        value: {
          userId: 1000,
          capabilities: 0n,
          isUnderSeccomp: false,
          isInUserNamespace: false,
        },
      },
    },
    'missing',
    /user 1000 without/,
    /sudo/,
  ],
  [
    'bpf-library',
    { bpf: { value: { library: failure('cannot load libbpf.so.1') } } },
    'missing',
    /libbpf\.so\.1/,
    /^apt-get install libbpf1$/,
  ],
  [
    'bpf-objects',
    { bpf: { value: { library: success, object: failure('cannot open x.o: ENOENT', 'ENOENT') } } },
    'missing',
    /ENOENT/,
    /npm start/,
  ],
  [
    'bpf-programs',
    withBpf({ load: failure('words of the verifier', 'EINVAL') }),
    'missing',
    /words/,
    /report/,
  ],
  [
    'bpf-programs',
    { ...withBpf({ load: refusal }), ...withoutRights(21n, 39n) },
    'missing',
    /EPERM/,
    /First meet rights/,
  ],
  [
    'bpf-programs',
    { ...withBpf({ load: refusal }), ...confined({ isUnderSeccomp: true }) },
    'missing',
    /EPERM/,
    /seccomp/,
  ],
  [
    'bpf-programs',
    { ...withBpf({ load: refusal }), ...confined({ isInUserNamespace: true }) },
    'missing',
    /EPERM/,
    /user namespace/,
  ],
  ['bpf-programs', withBpf({ load: refusal }), 'missing', /EPERM/, /locked down/],
  [
    'bpf-programs',
    { ...withBpf({ load: failure('x', 'EINVAL') }), kernelRelease: '5.4.0' },
    'missing',
    /^x$/,
    /newer kernel/,
  ],
  [
    'bpf-attachments',
    withBpf({ attach: failure('cannot add clsact to lo: ENOENT', 'ENOENT') }),
    'missing',
    /clsact/,
    /modprobe -a sch_ingress cls_bpf/,
  ],
  [
    'bpf-attachments',
    withBpf({ load: refusal }),
    'missing',
    /not tried/,
    /First meet bpf-programs/,
  ],
  [
    'bpf-attachments',
    withBpf({ attachUntried: 'EPERM' }),
    'limited',
    /no network namespace could be made/,
    /CAP_SYS_ADMIN/,
  ],
  [
    'bpf-memory',
    { kernelRelease: '5.4.0-150-generic' },
    'missing',
    /65536 bytes are allowed/,
    /LimitMEMLOCK=infinity/,
  ],
  ['bpf-compiler', { jitSetting: { value: '0' } }, 'limited', /interpreted/, /sysctl -w/],
  [
    'bpf-compiler',
    { jitSetting: { value: undefined }, ...withBpf({ isCompiled: false }) },
    'limited',
    /interpreted/,
    /sysctl -w/,
  ],
  [
    'bpf-compiler',
    { jitSetting: { value: undefined }, bpf: { failure: 'it was killed' } },
    'limited',
    /cannot be seen/,
    /first network namespace/,
  ],
  ['bpf-pins', { hasBpffs: { value: false } }, 'limited', /attached/, /^mount -t bpf bpf \/sys/],
  ['nft', { nftVersion: { value: '1.0.5' } }, 'missing', /1\.0\.5 is older/, /install nftables/],
  ['nft', { nftVersion: { value: '0.9.8' } }, 'missing', /0\.9\.8/, /install nftables/],
  ['nft', { nftVersion: { failure: 'no such program' } }, 'missing', /no such program/, /nftables/],
  [
    'nft-ruleset',
    { nftRuleset: { value: { check: failure('x'), lacking: ['conntrack', 'fib', 'reject'] } } },
    'missing',
    /the kernel lacks conntrack, fib, reject: x/,
    /modprobe -a nft_ct nft_fib_inet nft_reject_inet/,
  ],
  [
    'nft-ruleset',
    { nftRuleset: { value: { check: failure('Operation not permitted\n'), lacking: [] } } },
    'missing',
    /^Operation not permitted$/,
    /CAP_NET_ADMIN/,
  ],
  [
    'other-firewalls',
    {
      otherFirewalls: {
        value: [
          { table: 'ip filter', owner: 'ufw', seesForwarded: false },
          { table: 'inet mine', seesForwarded: true },
        ],
      },
    },
    'limited',
    /their rules hold too.*: ip filter \(ufw\), inet mine$/,
    /^ufw disable$/,
  ],
  [
    'other-firewalls',
    {
      otherFirewalls: {
        value: Array.from({ length: 20 }, (_, n) => ({ table: `ip t${n}`, seesForwarded: true })),
      },
    },
    'limited',
    /ip t7, 12 more$/,
    /nft list ruleset/,
  ],
  [
    'forwarding',
    { forwardingSetting: { value: failure('EROFS', 'EROFS') } },
    'missing',
    /EROFS/,
    /\/proc\/sys/,
  ],
  ['protocol-names', { hasProtocolNames: { value: false } }, 'missing', /none/, /install netbase$/],
  ['setpriv', { setpriv: { value: failure('unrecognized') } }, 'missing', /unrec/, /util-linux/],
  ['account', { hasAccount: { value: false } }, 'missing', /no such account/, /^useradd .*house$/],
  [
    'state-folder',
    withState({ write: failure('EROFS', 'EROFS') }),
    'missing',
    /EROFS/,
    /remount,rw/,
  ],
  [
    'state-folder',
    withState({ write: failure('EACCES') }),
    'missing',
    /EACCES/,
    /^Set paths.state/,
  ],
  [
    'state-space',
    withState({ freeBytes: 64 * MEBIBYTE - 1 }),
    'missing',
    /only 63 MiB/,
    /paths.st/,
  ],
  ['state-space', withState({ freeInodes: 255 }), 'missing', /only 255 inodes/, /paths.state/],
  ['state-durability', withState({ isInMemory: true }), 'limited', /each reboot/, /paths.state/],
  [
    'runtime-folder',
    withRuntime({ socket: failure('EPERM') }),
    'missing',
    /no Unix socket/,
    /paths.r/,
  ],
  [
    'runtime-folder',
    withRuntime({ lock: failure('ENOLCK') }),
    'missing',
    /no lock/,
    /paths.runtime/,
  ],
  [
    'runtime-folder',
    withRuntime({ folder: `/${'x'.repeat(80)}` }),
    'missing',
    /81 bytes/,
    /paths.r/,
  ],
  ['open-files', { openFilesMax: { value: 1023 } }, 'missing', /only 1023/, /ulimit -n/],
  ['memory', { memoryBytesMax: { value: 255 * MEBIBYTE } }, 'limited', /only 255 MiB/, /MemoryMax/],
  ['clock', { year: 1970 }, 'limited', /it says 1970/, /timedatectl/],
];

function confined(change: object): Partial<MachineFacts> {
  const value = sound.privileges.value ?? assert.fail();
  return { privileges: { value: { ...value, ...change } } };
}

test('on a sound machine every requirement is met', () => {
  const findings = judgeMachine(sound);
  assert.deepEqual(
    findings.filter(({ verdict }) => verdict !== 'met'),
    [],
  );
  assert.deepEqual(
    findings.map(({ name }) => name),
    machineRequirements.map(({ name }) => name),
  );
});

for (const [name, change, verdict, detail, remedy] of cases) {
  test(`${name} is ${verdict} where it says ${detail.source}, ${remedy.source}`, () => {
    const finding = find(name, change);
    assert.equal(finding.verdict, verdict, finding.detail);
    assert.match(finding.detail, detail);
    assert.match(finding.remedy ?? '', remedy);
  });
}

test('each requirement is shown not to be met by one of these cases', () => {
  const shown = new Set(cases.map(([name]) => name));
  const names = machineRequirements.map(({ name }) => name);
  assert.deepEqual([...shown].toSorted(), names.toSorted());
  assert.equal(new Set(names).size, names.length);
});

test('what could not be found out is not met, and stands in the way of nothing else', () => {
  const unknown = { failure: 'no answer within 20000 ms' };
  const facts = Object.fromEntries(
    Object.entries(sound).map(([name, fact]) => [name, typeof fact === 'object' ? unknown : fact]),
  ) as unknown as MachineFacts;
  const findings = judgeMachine(facts);
  assert.equal(findings.length, machineRequirements.length);
  const asked = findings.filter(({ detail }) => detail.includes('no answer within'));
  const known = ['kernel-version', 'bpf-memory', 'clock'];
  assert.equal(asked.length, findings.length - known.length);
  assert.ok(asked.every(({ verdict, remedy }) => verdict !== 'met' && remedy !== undefined));
});

test('survive-127: on Linux 5.4 the kernel and its memory limit are named, and what depends on them', () => {
  const facts: MachineFacts = {
    ...sound,
    kernelRelease: '5.4.0-150-generic',
    hasKernelTypes: { value: false },
    ...withBpf({ load: failure('cannot load: EINVAL', 'EINVAL') }),
  };
  const unmet = judgeMachine(facts).filter(({ verdict }) => verdict !== 'met');
  assert.deepEqual(
    unmet.map(({ name }) => name),
    ['kernel-version', 'kernel-types', 'bpf-programs', 'bpf-attachments', 'bpf-memory'],
  );
});

test('a newer nft and kernel are well', () => {
  for (const version of ['1.0.6.1', '1.1.0', '2.0']) {
    assert.equal(find('nft', { nftVersion: { value: version } }).verdict, 'met', version);
  }
  assert.equal(find('kernel-version', { kernelRelease: '7.0-rc1' }).verdict, 'met');
  const old = { kernelRelease: '5.4', lockedMemoryBytesMax: { value: Number.POSITIVE_INFINITY } };
  assert.equal(find('bpf-memory', old).verdict, 'met');
});
