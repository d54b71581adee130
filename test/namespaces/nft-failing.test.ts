/** The product with an nft that is missing, dies, hangs or talks nonsense, and works again. */
import assert from 'node:assert/strict';
import { mkdirSync, readdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, beforeEach, test } from 'node:test';
import type { NftTable } from '../../src/firewall/nft-table.ts';
import { tableDiffers } from '../../src/firewall/table-difference.ts';
import { type RunningProcess, runCommand } from '../../src/linux/command-runner.ts';
import type { CoreStatus } from '../../src/messages/control-messages.ts';
import { exitCodes, GatehouseLab, kill, saidBy, TIMEOUT_MS } from './gatehouse-lab.ts';

/** nft is given half a minute before it counts as hung, and is tried again after that. */
const HUNG_TIMEOUT_MS = 120_000;

const rule = (name: string, port = 25) =>
  `{ name: ${name}, action: drop, from: lan, to: wan, protocol: tcp, ports: [${port}] }`;

/** The words with which the product tells that nft failed so. */
const failures: Readonly<Record<string, { script?: string; told: RegExp }>> = {
  'is missing': { told: /no such program/ },
  'dies of a signal': { script: 'kill -SEGV $$', told: /SIGSEGV/ },
  'dies in a wrapper': { script: 'exit 139', told: /139/ },
  hangs: { script: 'exec sleep 1000', told: /longer than/ },
  'prints forty megabytes': { script: 'exec head -c 40000000 /dev/zero', told: /nft/ },
};

let place: GatehouseLab;
/** Before everything else in the product's search path. */
let programs: string;
let realNft: string;
let path: { readonly PATH: string };
let core: RunningProcess;
let table: NftTable;

before(async () => {
  place = await GatehouseLab.start('nftfailing');
  programs = join(place.lab.directory, 'programs');
  mkdirSync(programs);
  const found = await runCommand(['which', 'nft'], { timeoutMs: TIMEOUT_MS });
  realNft = found.stdout.trim();
  // All of its folder but itself, so that it can be missing.
  const folder = join(realNft, '..');
  for (const name of readdirSync(folder)) {
    if (name !== 'nft') symlinkSync(join(folder, name), join(programs, name));
  }
  path = { PATH: `${programs}:/usr/bin:/bin` };
});

after(() => place.stop());

beforeEach(async () => {
  await place.reset({ keepsNat: true });
  becomeNft(`exec ${realNft} "$@"`);
  place.writeConfig({ rules: [rule('good')] });
  core = await place.run({ env: path });
  table = (await place.table()) ?? assert.fail('there is no table');
  await awaitHealth();
});

/** @param script of a shell; undefined: there is no nft */
function becomeNft(script: string | undefined): void {
  const nft = join(programs, 'nft');
  if (script === undefined) {
    rmSync(nft, { force: true });
    return;
  }
  writeFileSync(`${nft}.new`, `#!/bin/sh\n${script}\n`, { mode: 0o755 });
  renameSync(`${nft}.new`, nft);
}

async function awaitHealth(): Promise<void> {
  const isDone = ({ healthy, change }: CoreStatus) => healthy && change === undefined;
  await place.awaitStatus('health', isDone, { timeoutMs: HUNG_TIMEOUT_MS });
}

async function assertGoodRulesInPlace(): Promise<void> {
  assert.equal(tableDiffers(table, await place.table()), undefined);
}

/** @returns why not */
async function refusedApply(configText: string): Promise<string> {
  const by = { author: 'test', forced: true, windowMs: 60_000 } as const;
  const answer = await place.ask({ kind: 'apply', configText, ...by });
  assert.ok(answer.kind === 'refused', JSON.stringify(answer));
  return answer.reason;
}

for (const [what, { script, told }] of Object.entries(failures)) {
  test(`survive-108 while nft ${what}, the last good rules stay and the status says why`, async () => {
    becomeNft(script);
    assert.match(await refusedApply(place.config({ rules: [rule('next')] })), told);
    await assertGoodRulesInPlace();
    const status = await place.status();
    assert.equal(status.healthy, false);
    assert.match(status.problems.join('\n'), told);
    assert.equal(status.forwarding, true);
    assert.match(saidBy(await place.expectCode(exitCodes.toTell, 'status')), told);
    becomeNft(`exec ${realNft} "$@"`);
    await awaitHealth();
    await assertGoodRulesInPlace();
    await place.install(place.config({ rules: [rule('next')] }));
    assert.deepEqual(await place.ruleNames(), ['next']);
  });
}

for (const what of ['is missing', 'dies of a signal']) {
  test(`survive-108 started while nft ${what}, it leaves the rules and goes on when it can`, async () => {
    await kill(core);
    becomeNft(failures[what]?.script);
    core = await place.run({ env: path });
    await assertGoodRulesInPlace();
    const status = await place.status();
    assert.equal(status.healthy, false);
    assert.match(status.problems.join('\n'), failures[what]?.told ?? /^$/);
    await place.expectCode(exitCodes.toTell, 'status');
    becomeNft(`exec ${realNft} "$@"`);
    await awaitHealth();
    await assertGoodRulesInPlace();
    assert.equal((await place.status()).forwarding, true);
  });
}

test('survive-108 an nft that fails once in the middle of a change costs only that change', async () => {
  // The check succeeds, what follows does not.
  becomeNft(`case "$*" in *"-c"*) exec ${realNft} "$@" ;; *) kill -SEGV $$ ;; esac`);
  await refusedApply(place.config({ rules: [rule('next')] }));
  await assertGoodRulesInPlace();
  becomeNft(`exec ${realNft} "$@"`);
  await awaitHealth();
  await assertGoodRulesInPlace();
  const status = await place.status();
  assert.equal(status.change, undefined);
  assert.equal(status.revision, 1);
});

test('survive-108 a confirmation in vain leaves the guard of a change that cannot be taken back', async () => {
  becomeNft('kill -SEGV $$');
  const by = { author: 'test', forced: true, windowMs: 60_000 } as const;
  const configText = place.config({ rules: [rule('next')] });
  const applying = place.ask({ kind: 'apply', configText, ...by });
  const isTakenBack = ({ change }: CoreStatus) => change?.phase === 'rolling-back';
  await place.awaitStatus('the way back', isTakenBack);
  const confirmed = await place.ask({ kind: 'confirm', author: 'test' });
  assert.equal(confirmed.kind, 'refused');
  assert.equal((await place.status()).change?.phase, 'rolling-back');
  assert.equal(place.guards().length, 1);
  becomeNft(`exec ${realNft} "$@"`);
  const answer = await applying;
  assert.ok(answer.kind === 'refused', JSON.stringify(answer));
  // Not the answer to the confirmation.
  assert.notEqual(answer.code, 'busy');
  await awaitHealth();
  await assertGoodRulesInPlace();
});

test('survive-108 an nft that applies and dies before it tells leaves kernel and status in line', async () => {
  becomeNft(`${realNft} "$@"; case "$*" in *list*|*"-c"*) exit $? ;; *) kill -SEGV $$ ;; esac`);
  const by = { author: 'test', forced: true, windowMs: 60_000 } as const;
  const configText = place.config({ rules: [rule('next')] });
  await place.ask({ kind: 'apply', configText, ...by });
  becomeNft(`exec ${realNft} "$@"`);
  await place.awaitStatus('a ruleset that is known', ({ ruleset }) => ruleset === 'config', {
    timeoutMs: HUNG_TIMEOUT_MS,
  });
  const { change } = await place.status();
  assert.deepEqual(await place.ruleNames(), [change === undefined ? 'good' : 'next']);
});

test('survive-107 a ruleset that the kernel refuses changes nothing and names the rule', async () => {
  // In the place of a kernel that lacks what one rule needs: nft is given nonsense for this one.
  const spoilt = join(place.lab.directory, 'spoilt.json');
  becomeNft(
    `for word in "$@"; do last=$word; done
case "$last" in
  /proc/*)
    sed 's/"right":4242/"right":"@nosuchset"/g' "$last" >${spoilt}
    case "$*" in *"-c"*) exec ${realNft} -j -c -f ${spoilt} ;; esac
    exec ${realNft} -j -f ${spoilt} ;;
esac
exec ${realNft} "$@"`,
  );
  const many = Array.from({ length: 50 }, (_, index) => rule(`rule_${index}`, 1_000 + index));
  const bad = [...many.slice(0, 25), rule('the_bad_one', 4242), ...many.slice(25)];
  const file = place.writeOther('bad.yaml', place.config({ rules: bad }));
  const result = await place.command('apply', file, '--confirm', '10s');
  assert.ok([exitCodes.configProblems, exitCodes.refused].some((code) => code === result.code));
  assert.match(saidBy(result), /the_bad_one/);
  await assertGoodRulesInPlace();
  await awaitHealth();
  await place.install(place.config({ rules: many }));
  assert.equal((await place.ruleNames()).length, 50);
});
