/** `gatehouse status`: how the running instance does. */
import type { CoreStatus, NatStatus } from '../messages/control-messages.ts';
import type { CommandOf, Instance } from './arguments.ts';
import { askCore } from './ask-core.ts';
import { exitCodes } from './exit-codes.ts';
import { done, type Outcome } from './outcome.ts';
import { proposedCommand } from './proposed-command.ts';
import { alignColumns, instantInWords, spanInWords } from './terminal-text.ts';
import type { CliWorld } from './world.ts';

/** The newest ones; `--json` has all. */
const ALARMS_SHOWN = 10;

export async function status(command: CommandOf<'status'>, world: CliWorld): Promise<Outcome> {
  const asked = await askCore(world, {
    instance: command,
    question: { kind: 'get-status' },
    expects: 'status',
  });
  if (asked.answer === undefined) return asked.failure;
  const told = asked.answer.status;
  const rows: readonly Row[] = [
    ...rowsOnProgram(told),
    ...rowsOnPolicy(told, command),
    ...rowsOnParts(told),
    ...rowsOnNat(told.nat),
    ...told.apiAddresses.map((address): Row => ['api', address]),
    ...told.notInForce.map((text): Row => ['not yet', text]),
    ...told.problems.map((text): Row => ['problem', text]),
    ...rowsOnAlarms(told),
  ];
  const exitCode = told.healthy ? exitCodes.done : exitCodes.toTell;
  return done(alignColumns(rows), { status: told }, { exitCode });
}

type Row = readonly [label: string, text: string];

function rowsOnProgram({ version, pid, uptimeMs, healthy, configFile, stateFolder }: CoreStatus) {
  return [
    ['gatehouse', `${version}, process ${pid}, for ${spanInWords(uptimeMs)}`],
    ['health', healthy ? 'as it should be' : 'not as it should be: see the problems below'],
    ['config', configFile],
    ['state', stateFolder],
  ] as const satisfies Row[];
}

const rulesets: { readonly [Kind in CoreStatus['ruleset']]: string } = {
  config: 'of the config',
  safe: 'minimal, by safe mode',
  posture: 'everything refused',
  unknown: 'unknown',
};

function rowsOnPolicy(told: CoreStatus, instance: Instance): Row[] {
  const { revision, ruleset, ruleCount, forwarding, safeMode, change } = told;
  const number = revision === undefined ? 'none recorded' : `${revision}`;
  const forwards = forwarding ? 'packets are forwarded' : 'nothing is forwarded';
  return [
    ['revision', number],
    ['ruleset', `${rulesets[ruleset]}, ${ruleCount} rules; ${forwards}`],
    ...(safeMode === undefined ? [] : [rowOnSafeMode(safeMode)]),
    ...(change === undefined ? [] : [rowOnChange(change, instance)]),
  ];
}

function rowOnSafeMode({ sinceMs, author }: NonNullable<CoreStatus['safeMode']>): Row {
  return ['safe mode', `on since ${instantInWords(sinceMs)} by ${author}`];
}

function rowOnChange(change: NonNullable<CoreStatus['change']>, instance: Instance): Row {
  const { changeId, author, phase, rollbackInMs } = change;
  const what = `${changeId} by ${author}: ${phase}`;
  if (rollbackInMs === undefined) return ['change', what];
  const unless = proposedCommand(instance, 'confirm', changeId);
  return ['change', `${what}; rolled back in ${spanInWords(rollbackInMs)} unless: ${unless}`];
}

function rowsOnParts({ roles, interfaces }: CoreStatus): Row[] {
  return [
    ...roles.map(({ role, phase, restartCount, lastExit, forMs }): Row => {
      const restarts = restartCount === 0 ? '' : `, started again ${restartCount} times`;
      const why = lastExit === undefined ? '' : `, last ended: ${lastExit}`;
      return ['role', `${role}: ${phase} for ${spanInWords(forMs)}${restarts}${why}`];
    }),
    ...interfaces.map(({ name, state }): Row => ['interface', `${name}: ${state}`]),
  ];
}

function rowsOnNat({ state, reason, ...nat }: NatStatus): Row[] {
  const { externalAddresses, sessions, mappings = 0, memoryBytes = 0, counters } = nat;
  const addresses = externalAddresses.length === 0 ? 'no address' : externalAddresses.join(', ');
  const megabytes = Math.round(memoryBytes / 1_000_000);
  const rest = `${mappings} mappings, ${megabytes} MB`;
  const missing = nat.interfaces.filter((one) => one.state !== 'attached');
  const counts = counters.map(({ name, count }) => `${inWords(name)} ${count}`);
  const texts = [
    state === 'on' ? `on, with ${addresses}` : `${state}: ${reason ?? 'no reason is known'}`,
    ...(sessions === undefined ? [] : [`${sessions.open} of ${sessions.max} sessions, ${rest}`]),
    ...missing.map((one) => `not on ${one.name} yet: ${one.state}`),
    ...nat.overlappingNetworks.map((name) => {
      return `without the network ${name}, whose addresses the WAN has, too`;
    }),
    ...(counts.length === 0 ? [] : [counts.join(', ')]),
  ];
  const fast = nat.fastPath ?? [];
  return [
    ...texts.map((text): Row => ['nat', text]),
    ...fast.map(({ name, at, reason }): Row => ['fast path', `${name}: ${at}, ${reason}`]),
  ];
}

/** `droppedHostSessions` as `dropped host sessions`. */
function inWords(name: string): string {
  return name.replaceAll(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`);
}

function rowsOnAlarms({ alarms }: CoreStatus): Row[] {
  const shown = alarms.slice(-ALARMS_SHOWN);
  const hidden = alarms.length - shown.length;
  return [
    ...(hidden === 0 ? [] : [['alarm', `${hidden} earlier ones: see --json`] as const]),
    ...shown.map(({ atMs, text }): Row => ['alarm', `${instantInWords(atMs)}: ${text}`]),
  ];
}
