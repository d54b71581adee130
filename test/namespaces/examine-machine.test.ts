/** What doctor finds on this machine, and what it finds when something is taken away. */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { Lab } from '../../lab/lab.ts';
import type { MachineFinding } from '../../src/gateway/machine-finding.ts';
import { type Argv, runCommand } from '../../src/linux/command-runner.ts';

/** Only bounds a hang. */
const TIMEOUT_MS = 60_000;

const folder = mkdtempSync(join(tmpdir(), 'gatehouse-doctor-'));
after(() => rmSync(folder, { recursive: true }));
const state = join(folder, 'state');
const runtime = join(folder, 'run');
mkdirSync(state);
mkdirSync(runtime);

const victim = join(import.meta.dirname, 'examine-machine-victim.ts');
const ownMounts = [
  '/usr/bin/unshare',
  '--mount',
  '--propagation',
  'private',
  '--net',
  '--',
] as const;

/** In a network namespace only our own program shows whether there is a compiler. */
const compilerUnknown = { 'bpf-compiler': ['limited', /cannot be seen from here/] } as const;

interface Surroundings {
  /** What the victim takes away, as its head describes it. */
  readonly actions?: readonly string[];
  /** Programs in front of the victim's. */
  readonly within?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
}

async function examine({ actions = [], within = [], env = {} }: Surroundings) {
  const program = [process.execPath, '--disable-warning=ExperimentalWarning', victim];
  const argv: Argv = [...ownMounts, ...within, ...program, state, runtime, ...actions];
  const result = await runCommand(argv, { timeoutMs: TIMEOUT_MS, env });
  assert.ok(result.success, `${argv.join(' ')}: ${result.stderr}`);
  const findings: MachineFinding[] = JSON.parse(result.stdout);
  return findings;
}

function unmet(findings: readonly MachineFinding[]): Record<string, MachineFinding> {
  const entries = findings.filter(({ verdict }) => verdict !== 'met').map((one) => [one.name, one]);
  return Object.fromEntries(entries);
}

/** Exactly these are not met. */
function assertUnmet(
  findings: readonly MachineFinding[],
  expected: Readonly<Record<string, readonly ['missing' | 'limited', RegExp]>>,
): void {
  const found = unmet(findings);
  const shown = JSON.stringify(found, undefined, 1);
  assert.deepEqual(Object.keys(found).toSorted(), Object.keys(expected).toSorted(), shown);
  for (const [name, [verdict, words]] of Object.entries(expected)) {
    assert.equal(found[name]?.verdict, verdict, shown);
    assert.match(`${found[name]?.detail} → ${found[name]?.remedy}`, words);
  }
}

function fileWith(name: string, text: string): string {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
}

/** A PATH with these programs only. */
function pathWith(...programs: readonly (readonly [name: string, target: string])[]) {
  const path = mkdtempSync(join(folder, 'path-'));
  for (const [name, target] of programs) symlinkSync(target, join(path, name));
  return { PATH: path };
}

test('on a machine that is set up every requirement is met, and the trials leave nothing', async () => {
  const findings = await examine({});
  assertUnmet(findings, {});
  assert.ok(findings.length > 20);
  assert.deepEqual([readdirSync(state), readdirSync(runtime)], [[], []]);
});

test('survive-127 without a bpffs the program runs limited', async () => {
  assertUnmet(await examine({ actions: ['hide=/sys/fs/bpf'] }), {
    'bpf-pins': ['limited', /attached.* → mount -t bpf bpf/],
  });
});

test('survive-127 without the kernel types their absence is named', async () => {
  const findings = unmet(await examine({ actions: ['hide=/sys/kernel/btf'] }));
  assert.equal(findings['kernel-types']?.verdict, 'missing');
});

test('survive-127 without CAP_BPF the right is named, and with it what fails for it', async () => {
  const within = ['setpriv', '--bounding-set', '-bpf,-sys_admin', '--'];
  assertUnmet(await examine({ within }), {
    ...compilerUnknown,
    rights: ['missing', /root without CAP_BPF → .*--cap-add BPF;/],
    'bpf-programs': ['missing', /EPERM.* → First meet rights/],
    'bpf-attachments': ['missing', /not tried/],
  });
});

test('survive-127 without CAP_PERFMON the verifier refuses, and the right is named', async () => {
  const within = ['setpriv', '--bounding-set', '-perfmon,-sys_admin', '--'];
  assertUnmet(await examine({ within }), {
    ...compilerUnknown,
    rights: ['missing', /root without CAP_PERFMON →/],
    'bpf-programs': ['missing', /EACCES.* → First meet rights/],
    'bpf-attachments': ['missing', /not tried/],
  });
});

test('survive-127 without CAP_NET_ADMIN nothing about the network is promised', async () => {
  // CAP_SYS_ADMIN is enough for attaching by tcx.
  const within = ['setpriv', '--bounding-set', '-net_admin', '--'];
  assertUnmet(await examine({ within }), {
    rights: ['missing', /root without CAP_NET_ADMIN →/],
    'nft-ruleset': ['missing', /not permitted.* → .*CAP_NET_ADMIN/],
    'other-firewalls': ['limited', /could not be found out/],
  });
});

test('survive-127 without CAP_SYS_ADMIN attaching is not tried, and the program is not refused', async () => {
  const within = ['setpriv', '--bounding-set', '-sys_admin', '--'];
  assertUnmet(await examine({ within }), {
    'bpf-attachments': ['limited', /no network namespace could be made.* → .*does without it/],
  });
});

test('survive-127 where seccomp forbids bpf(2) it is named', async () => {
  assertUnmet(await examine({ actions: ['forbid-bpf'] }), {
    ...compilerUnknown,
    'bpf-programs': ['missing', /EPERM.* → A seccomp filter forbids bpf/],
    'bpf-attachments': ['missing', /not tried/],
  });
});

test("survive-127 a rootless container's root is told that it is none", async () => {
  const within = ['unshare', '--user', '--map-root-user', '--'];
  const findings = unmet(await examine({ within }));
  assert.match(findings['bpf-programs']?.remedy ?? '', /outside of the user namespace/);
});

test('survive-127 without compiled objects the way to build them is named', async () => {
  const objects = join(import.meta.dirname, '../../build/bpf');
  assertUnmet(await examine({ actions: [`hide=${objects}`] }), {
    ...compilerUnknown,
    'bpf-objects': ['missing', /ENOENT.* → npm start/],
    'bpf-programs': ['missing', /not tried, since bpf-objects/],
    'bpf-attachments': ['missing', /not tried/],
  });
});

test('survive-127 without nft its package is named', async () => {
  const env = pathWith(['setpriv', '/usr/bin/setpriv']);
  assertUnmet(await examine({ env }), {
    nft: ['missing', /no such program → apt-get install nftables/],
    'nft-ruleset': ['missing', /no such program/],
    'other-firewalls': ['limited', /could not be found out/],
  });
});

test('without setpriv, and with one that cannot bind children, util-linux is named', async () => {
  const programs = [
    ['nft', '/usr/sbin/nft'],
    ['setpriv', '/bin/false'],
  ] as const;
  for (const env of [pathWith(programs[0]), pathWith(...programs)]) {
    const { setpriv } = unmet(await examine({ env }));
    assert.match(setpriv?.remedy ?? '', /^apt-get install util-linux/);
  }
});

test('files that set-up brings are missed by name', async () => {
  const empty = fileWith('empty', '');
  const accounts = fileWith('passwd', 'root:x:0:0:root:/root:/bin/sh\n');
  const actions = [`replace=/etc/protocols=${empty}`, `replace=/etc/passwd=${accounts}`];
  assertUnmet(await examine({ actions }), {
    'protocol-names': ['missing', /→ apt-get install netbase/],
    account: ['missing', /→ useradd --system/],
  });
});

test('a setting that switches the compiler off, and one that cannot be written, are noticed', async () => {
  const off = fileWith('jit', '0\n');
  const setting = '/proc/sys/net/core/bpf_jit_enable';
  // The setting is shown in the first network namespace only.
  const program = [process.execPath, '--disable-warning=ExperimentalWarning', victim] as const;
  const mounts = ['unshare', '--mount', '--propagation', 'private', '--'] as const;
  const actions = [`replace=${setting}=${off}`, 'read-only=/proc/sys/net/ipv4'];
  const argv: Argv = [...mounts, ...program, state, runtime, ...actions];
  const result = await runCommand(argv, { timeoutMs: TIMEOUT_MS });
  const { 'other-firewalls': _ours, ...found } = unmet(JSON.parse(result.stdout));
  assert.deepEqual(Object.keys(found), ['bpf-compiler', 'forwarding']);
  assert.match(found['forwarding']?.detail ?? '', /EROFS/);
});

test('folders that are small, in memory, read-only or no place for sockets are named', async () => {
  assertUnmet(await examine({ actions: [`small=${state}`] }), {
    'state-space': ['missing', /only 1 MiB are free/],
    'state-durability': ['limited', /lost at each reboot/],
  });
  assertUnmet(await examine({ actions: [`read-only=${folder}`] }), {
    'state-folder': ['missing', /EROFS.* → mount -o remount,rw/],
    'runtime-folder': ['missing', /takes no Unix socket: EROFS/],
  });
});

test('survive-121 a low limit of open files is named', async () => {
  const findings = await examine({ within: ['prlimit', '--nofile=512:512', '--'] });
  assertUnmet(findings, { 'open-files': ['missing', /only 512.* → ulimit -n/] });
});

test("other owners' filters are named and left alone", async () => {
  await using lab = await Lab.start({ hosts: { gate: {} } });
  const gate = lab.host('gate');
  const rules = fileWith(
    'other.nft',
    `table ip filter {
       chain ufw-user-input { }
       chain INPUT { type filter hook input priority filter; policy accept; }
     }
     table inet idle {
       chain unused { }
     }`,
  );
  const nft = async (...words: string[]) => {
    const result = await gate.run(['nft', ...words], { timeoutMs: TIMEOUT_MS });
    assert.ok(result.success, result.stderr);
    return result.stdout;
  };
  await nft('-f', rules);
  const before = await nft('list', 'ruleset');
  const program = [process.execPath, '--disable-warning=ExperimentalWarning', victim] as const;
  const result = await gate.run([...program, state, runtime], { timeoutMs: TIMEOUT_MS });
  assertUnmet(JSON.parse(result.stdout), {
    'other-firewalls': ['limited', /hold too.*: ip filter \(ufw\) → ufw disable/],
  });
  assert.equal(await nft('list', 'ruleset'), before);
});
