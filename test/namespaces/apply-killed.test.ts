/**
 * The core is killed again and again while it changes the rules. The kernel always has the old or
 * the new ones whole, packets never meet a moment without, and every start brings kernel, config
 * file and history together.
 */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { after, before, type TestContext, test } from 'node:test';
import { seededRandom } from '../../lab/seeded-random.ts';
import { waitFor } from '../../lab/wait-for.ts';
import type { NftTable } from '../../src/firewall/nft-table.ts';
import { tableDiffers } from '../../src/firewall/table-difference.ts';
import type { RunningProcess } from '../../src/linux/command-runner.ts';
import { end, GatehouseLab, kill, TIMEOUT_MS } from './gatehouse-lab.ts';
import { missingOutbound, startPacketProbe } from './packet-probe.ts';

/** A start takes a second, and more: 200 kills take minutes, and are for who asks for them. */
const KILLS = Number(process.env['GATEHOUSE_KILLS'] ?? 25);
/** Of one test. */
const KILL_COUNT = 25;
const PART_COUNT = Math.ceil(KILLS / KILL_COUNT);
const PROBES_PER_SECOND = 1_000;
/** A part: bounds a hang. */
const DURATION_MS_MAX = 290_000;
/** Long enough that no window ends by itself in a round. */
const WINDOW_MS = 60_000;
/** Enough that nft works on them for a while. */
const RULE_COUNT = 150;
const SEED = Number(process.env['GATEHOUSE_SEED'] ?? 20_261_122);

let place: GatehouseLab;

before(async () => {
  place = await GatehouseLab.start('applykilled');
});

after(() => place.stop());

interface Side {
  readonly name: string;
  readonly text: string;
  /** As the kernel lists it. */
  readonly table: NftTable;
}

function textOf(name: string): string {
  const rules = Array.from({ length: RULE_COUNT }, (_, index) => {
    const where = `from: lan, to: wan, destination: [203.0.113.${index}], protocol: tcp`;
    return `{ name: ${name}_${index}, action: drop, ${where}, ports: [${index + 1}] }`;
  });
  return place.config({ rules });
}

async function install(name: string): Promise<Side> {
  const text = textOf(name);
  await place.install(text);
  const table = (await place.table()) ?? assert.fail('there is no table');
  assert.equal((await place.ruleNames()).length, RULE_COUNT);
  return { name, text, table };
}

const steps = ['apply', 'confirm'] as const;
type Step = (typeof steps)[number];

/** Applies and confirms, as far as it comes. */
async function change(text: string, onStep: (step: Step) => void = () => {}): Promise<void> {
  const by = { author: 'test', forced: false, windowMs: WINDOW_MS } as const;
  onStep('apply');
  const applied = await place.ask({ kind: 'apply', configText: text, ...by });
  assert.equal(applied.kind, 'change', JSON.stringify(applied));
  onStep('confirm');
  const confirmed = await place.ask({ kind: 'confirm', author: 'test' });
  assert.equal(confirmed.kind, 'change', JSON.stringify(confirmed));
}

/** Kills the core at a moment of a change. Nothing that it started goes on in the kernel. */
async function killDuring(
  core: RunningProcess,
  text: string,
  moment: { readonly step: Step; readonly afterMs: number },
): Promise<void> {
  let killAt = Number.POSITIVE_INFINITY;
  let refusal: unknown;
  const changing = change(text, (step) => {
    if (step === moment.step) killAt = performance.now() + moment.afterMs;
  }).catch((error: unknown) => {
    // Else the connection broke off, which is what is wanted.
    if (error instanceof assert.AssertionError) refusal = error;
  });
  const until = () => performance.now() >= killAt || refusal !== undefined;
  await waitFor('the moment of the kill', until, { timeoutMs: TIMEOUT_MS, intervalMs: 1 });
  await kill(core);
  await changing;
  if (refusal !== undefined) throw refusal;
  await waitFor('nft to end', () => place.nftProcesses().length === 0, { timeoutMs: TIMEOUT_MS });
}

/** Which of the two the kernel has. It must be one of them, and whole. */
async function sideInKernel(sides: readonly Side[], when: string): Promise<Side> {
  const table = await place.table();
  const found = sides.find((side) => tableDiffers(side.table, table) === undefined);
  const differences = sides.map((side) => tableDiffers(side.table, table)?.changes[0]);
  return found ?? assert.fail(`${when}: the table is neither; ${differences.join('; ')}`);
}

interface Round {
  readonly current: Side;
  readonly next: Side;
  readonly revision: number;
  /** Of a change that waits: confirm or roll back. */
  readonly confirms: boolean;
  readonly when: string;
}

/** After the restart: everything says the same. @returns what is in force for good */
async function settle({ current, next, revision, confirms, when }: Round) {
  const sides = [current, next];
  const status = await place.status();
  assert.ok(
    [undefined, 'waiting'].includes(status.change?.phase),
    `${when}: ${status.change?.phase}`,
  );
  const isWaiting = status.change !== undefined;
  const isConfirmed = (status.revision ?? 0) > revision;
  assert.equal(status.ruleset, 'config', when);
  assert.ok(!(isWaiting && isConfirmed), when);
  const expected = isWaiting || isConfirmed ? next : current;
  const said = `${when}; ${JSON.stringify(status)}`;
  assert.equal((await sideInKernel(sides, when)).name, expected.name, said);
  if (isWaiting) {
    const answer = await place.ask({ kind: confirms ? 'confirm' : 'rollback', author: 'test' });
    const outcome = answer.kind === 'change' ? answer.outcome : JSON.stringify(answer);
    assert.equal(outcome, confirms ? 'confirmed' : 'rolled-back', when);
  }
  const kept = isConfirmed || (isWaiting && confirms) ? next : current;
  assert.equal((await sideInKernel(sides, when)).name, kept.name, when);
  assert.equal(place.readConfig(), kept.text, when);
  const last = await place.status();
  assert.deepEqual(last.problems.filter(isOfRules), [], when);
  assert.equal(last.change, undefined, when);
  assert.equal(last.revision, kept === next ? revision + 1 : revision, when);
  const met = isConfirmed ? 'confirmed' : isWaiting ? 'waiting' : 'rolled back or not begun';
  return { kept, revision: last.revision ?? 0, met };
}

/** The api role may still be starting. */
function isOfRules(problem: string): boolean {
  return !problem.startsWith('role api');
}

/**
 * Most of a change is the time that compiling takes, in which nothing is touched. A core remembers
 * what it has compiled, so it is asked beforehand, for something that it refuses.
 */
async function haveCompiled({ current, next }: { current: Side; next: Side }): Promise<void> {
  writeFileSync(place.configFile, `${current.text}# Edited.\n`);
  const by = { author: 'test', forced: false, windowMs: WINDOW_MS } as const;
  const answer = await place.ask({ kind: 'apply', configText: next.text, ...by });
  assert.ok(answer.kind === 'refused' && answer.code === 'config-file-edited');
  writeFileSync(place.configFile, current.text);
}

/** How long the steps of a change take that is prepared as those that are killed. */
async function measureChange(pair: {
  current: Side;
  next: Side;
}): Promise<{ readonly [S in Step]: number }> {
  await haveCompiled(pair);
  const startedAt = performance.now();
  let appliedAt = startedAt;
  await change(pair.next.text, (step) => {
    if (step === 'confirm') appliedAt = performance.now();
  });
  return { apply: appliedAt - startedAt, confirm: performance.now() - appliedAt };
}

for (let part = 0; part < PART_COUNT; part++) {
  const seed = SEED + part;
  test(`survive-106 the core is killed at ${KILL_COUNT} random moments of a change, ${part}`, async (t) => {
    t.diagnostic(`seed ${seed}`);
    await killAtRandom(t, seed);
  });
}

async function killAtRandom(t: TestContext, seed: number): Promise<void> {
  const random = seededRandom(seed);
  await place.reset({ keepsNat: true });
  place.writeConfig();
  // The end writes what the next starts need not compile again, of the program itself.
  await end(await place.run());
  let core = await place.run();
  const old = await install('old');
  let [current, next]: [Side, Side] = [await install('new'), old];
  const usualMs: { [S in Step]: number } = await measureChange({ current, next });
  [current, next] = [next, current];
  let revision = (await place.status()).revision ?? 0;
  const tally = new Map<string, number>();
  const count = (what: string) => tally.set(what, (tally.get(what) ?? 0) + 1);
  await using probe = await startPacketProbe(place, {
    framesPerSecond: PROBES_PER_SECOND,
    durationMsMax: DURATION_MS_MAX,
  });
  const isUnmet = () => outcomes.some((what) => !tally.has(what));
  for (let round = 0; round < KILL_COUNT || (isUnmet() && round < 2 * KILL_COUNT); round++) {
    await haveCompiled({ current, next });
    const step = random() < 0.6 ? 'apply' : 'confirm';
    const afterMs = random() * usualMs[step] * 1.3;
    const moment = `${afterMs.toFixed(1)} ms after the begin of ${step}`;
    const when = `round ${round} of seed ${seed}, killed ${moment}`;
    await killDuring(core, next.text, { step, afterMs });
    const isApplied = (await sideInKernel([current, next], when)) === next;
    count(`kernel ${isApplied ? 'after' : 'before'}`);
    core = await place.run();
    const confirms = random() < 0.5;
    const settled = await settle({ current, next, revision, confirms, when });
    revision = settled.revision;
    count(settled.met);
    // What a step takes changes with the load: the moments follow, so that they are on both sides.
    const isDone = step === 'apply' ? isApplied : settled.met === 'confirmed';
    usualMs[step] *= isDone ? 0.85 : 1.2;
    if (settled.kept === next) [current, next] = [next, current];
  }
  const probed = await probe.stop();
  const { outbound, inbound, seconds } = probed;
  const told = [...tally].map(([what, number]) => `${what} ${number}`).join(', ');
  t.diagnostic(`steps take ${JSON.stringify(usualMs)} ms; ${told}`);
  t.diagnostic(`${seconds.toFixed(0)} s; ${JSON.stringify(probed)}`);
  assert.equal(inbound.arrived, 0);
  assert.equal(missingOutbound(probed), 0);
  const least = seconds * PROBES_PER_SECOND * 0.9;
  assert.ok(inbound.sent > least && outbound.sent > least);
  // Else the moments were not spread over the change.
  assert.ok(!isUnmet(), told);
}

const outcomes = ['kernel before', 'kernel after', 'waiting', 'confirmed'] as const;
