/** How the running instance does, for `gatehouse status`. */
import type { Config } from '../../config/schema.ts';
import type { CoreStatus } from '../../messages/control-messages.ts';
import type { ChangeRecords } from '../store/change-records.ts';
import type { Store } from '../store/store.ts';
import type { AddressTables } from './address-tables.ts';
import type { Alarm } from './alarms.ts';
import type { CoreChanges } from './core-changes.ts';
import type { CoreRoles } from './core-roles.ts';
import type { NatDataplane } from './nat-dataplane.ts';
import type { PacketCounting } from './packet-counting.ts';
import type { RulesetKeeper } from './ruleset-keeper.ts';

/** What a running core is made of. */
export interface CoreParts {
  readonly paths: Config['paths'];
  readonly store: Store;
  readonly records: ChangeRecords;
  readonly keeper: RulesetKeeper;
  readonly tables: AddressTables;
  readonly counting: PacketCounting;
  readonly nat: NatDataplane;
  readonly changes: CoreChanges;
  readonly roles: CoreRoles;
}

/** Longer sentences are cut. */
const NOTE_LENGTH_MAX = 1_024;

export function coreStatus(
  parts: CoreParts & {
    readonly version: string;
    readonly configFile: string;
    readonly alarms: readonly Alarm[];
  },
): CoreStatus {
  const { version, configFile, alarms, paths, keeper, counting, nat, changes, roles } = parts;
  const { safeMode } = changes;
  const problems = problemsOf(parts).map((text) => text.slice(0, NOTE_LENGTH_MAX));
  const { revision, running } = changes;
  return {
    version,
    pid: process.pid,
    uptimeMs: performance.now(),
    configFile,
    stateFolder: paths.state,
    ...(revision === undefined ? {} : { revision }),
    healthy: problems.length === 0,
    problems,
    alarms: [...alarms],
    ruleset: keeper.inForce,
    ruleCount: keeper.ruleCount,
    forwarding: keeper.forwarding,
    ...(safeMode === undefined ? {} : { safeMode }),
    ...changeUnderWay(changes),
    roles: roles.statuses().map(({ role, phase, restartCount, lastExit, forMs }) => ({
      role,
      phase,
      restartCount,
      forMs,
      ...(lastExit === undefined ? {} : { lastExit: lastExit.slice(0, NOTE_LENGTH_MAX) }),
    })),
    interfaces: counting.states(),
    nat: nat.status(),
    apiAddresses: [...roles.apiAddresses],
    notInForce: [...(running?.notInForce ?? [])],
  };
}

function changeUnderWay({ underWay }: CoreChanges): Pick<CoreStatus, 'change'> {
  if (underWay === undefined) return {};
  const { change, phase, rollbackInMs } = underWay;
  const { id: changeId, author } = change;
  const rest = rollbackInMs === undefined ? {} : { rollbackInMs };
  return { change: { changeId, author, phase, ...rest } };
}

/** One sentence for each thing that is not as it should be. */
function problemsOf({ store, keeper, counting, nat, roles, changes }: CoreParts): string[] {
  const isSafe = changes.safeMode !== undefined;
  const wanted = isSafe ? 'safe' : 'config';
  return [
    ...(keeper.trouble === undefined ? [] : [keeper.trouble]),
    ...(keeper.inForce === wanted ? [] : [`the ruleset in force is not that of the config`]),
    ...(keeper.forwarding ? [] : ['nothing is forwarded']),
    ...(isSafe ? ['safe mode is on: the rules of the config are not in force'] : []),
    ...(changes.revision === undefined && changes.underWay === undefined
      ? ['what is in force is no recorded revision']
      : []),
    ...(store.failure === undefined ? [] : [`the state is not on disk: ${store.failure.message}`]),
    ...counting.states().flatMap(({ name, state }) => {
      return state === 'counting' ? [] : [`interface ${name} is ${state}`];
    }),
    ...nat.problems(),
    ...roles.statuses().flatMap(({ role, phase, lastExit }) => {
      if (phase === 'running') return [];
      return [`role ${role} is ${phase}${lastExit === undefined ? '' : ` (${lastExit})`}`];
    }),
  ];
}
