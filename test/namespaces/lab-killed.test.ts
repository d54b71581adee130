import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
// check-ignore banned-calls: the moment of the kill is what is varied
import { setTimeout as delay } from 'node:timers/promises';
import { Lab } from '../../lab/lab.ts';
import { OWNER_VARIABLE, RECORDS_DIRECTORY } from '../../lab/ownership.ts';
import { seededRandom } from '../../lab/seeded-random.ts';
import { waitFor } from '../../lab/wait-for.ts';
import { type Argv, runCommand, startProcess } from '../../src/linux/command-runner.ts';

/** Only bounds a hang. */
const TIMEOUT_MS = 30_000;
const KILL_COUNT = 50;
const SEED = Number(process.env['GATEHOUSE_SEED'] ?? 20_240_607);

/** What the victim says, and the most time that it is then left alone, about what that takes it. */
const PHASES = [
  { name: 'bring-up', restMs: 300 },
  { name: 'running', restMs: 250 },
  { name: 'tear-down', restMs: 40 },
] as const;

/** Starts a victim, and kills it at a moment that chance picks in the given phase. */
async function killOne(options: {
  phase: (typeof PHASES)[number];
  moment: number;
  argv: Argv;
}): Promise<void> {
  const { phase, moment, argv } = options;
  const victim = startProcess(argv);
  await victim.waitForOutput(new RegExp(`^${phase.name}$`, 'm'), TIMEOUT_MS);
  // Not to wait for something: the moment of the kill is what is varied.
  await delay(moment * phase.restMs);
  process.kill(victim.pid ?? 0, 'SIGKILL');
  assert.equal((await victim.exited).signal, 'SIGKILL', victim.output().stderr);
}

/** Everything on this machine that bears the victims' name. */
async function traces(labName: string, interfaceName: string) {
  const links = await runCommand(['ip', '-json', 'link', 'show'], { timeoutMs: TIMEOUT_MS });
  assert.equal(links.success, true, links.stderr);
  return {
    namespaces: readdirSync('/run/netns').filter((file) => file.startsWith(`gh-${labName}-`)),
    records: readdirSync(RECORDS_DIRECTORY).filter((file) => file.startsWith(`${labName}-`)),
    processes: readdirSync('/proc').filter((entry) => isStartedBy(entry, labName)),
    links: (JSON.parse(links.stdout) as { ifname: string }[])
      .map(({ ifname }) => ifname)
      .filter((ifname) => ifname.startsWith(interfaceName)),
  };
}

function isStartedBy(procEntry: string, labName: string): boolean {
  try {
    const environment = readFileSync(`/proc/${procEntry}/environ`, 'latin1');
    return `\0${environment}`.includes(`\0${OWNER_VARIABLE}=${labName}-`);
  } catch {
    return false;
  }
}

test(`a lab killed ${KILL_COUNT} times leaves nothing behind the next`, async (context) => {
  context.diagnostic(`GATEHOUSE_SEED=${SEED}`);
  const random = seededRandom(SEED);
  const token = randomBytes(3).toString('hex');
  const labName = `killed${token}`;
  const interfaceName = `k${token}`;
  const program = new URL('./lab-killed-victim.ts', import.meta.url).pathname;
  const warnings = '--disable-warning=ExperimentalWarning';
  const argv = [process.execPath, warnings, program, labName, interfaceName] as const;
  const foreign = `gh-foreign-${token}`;
  const made = await runCommand(['ip', 'netns', 'add', foreign], { timeoutMs: TIMEOUT_MS });
  assert.equal(made.success, true, made.stderr);
  const networkNamespace = `/run/netns/${foreign}`;
  const foreignProcess = startProcess(['sleep', '1000'], { networkNamespace });
  await using living = await Lab.start({
    hosts: {
      left: { addresses: { eth0: ['10.0.0.1/24'] } },
      right: { addresses: { eth0: ['10.0.0.2/24'] } },
    },
    links: { wire: { ends: ['left:eth0', 'right:eth0'], impairment: {} } },
  });
  const server = living.host('right').spawn(['sleep', '1000']);
  try {
    const plans = Array.from({ length: KILL_COUNT }, (_, index) => ({
      phase: PHASES[index % PHASES.length] ?? PHASES[0],
      moment: random(),
      argv,
    }));
    // Two at a time, so that each also cleans while another does.
    const killInTurn = async () => {
      for (let plan = plans.shift(); plan !== undefined; plan = plans.shift()) await killOne(plan);
    };
    await Promise.all([killInTurn(), killInTurn()]);

    const next = await Lab.start({ hosts: { alone: {} } }, { name: labName });
    await next.stop();
    assert.deepEqual(next.leftovers.failed, []);
    await waitFor('all traces to vanish', () => traces(labName, interfaceName), {
      timeoutMs: TIMEOUT_MS,
      until: (seen) => Object.values(seen).every(({ length }) => length === 0),
    });

    const ping = ['ping', '-c', '1', '10.0.0.2'] as const;
    const reached = await living.host('left').run(ping, { timeoutMs: TIMEOUT_MS });
    assert.equal(reached.success, true, reached.stdout);
    process.kill(server.pid ?? 0, 0);
    process.kill(foreignProcess.pid ?? 0, 0);
    assert.ok(existsSync(networkNamespace));
  } finally {
    await foreignProcess.stop();
    await runCommand(['ip', 'netns', 'del', foreign], { timeoutMs: TIMEOUT_MS });
  }
});
