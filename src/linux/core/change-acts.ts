/** What a change does to store, config file and kernel; the same for the core and the guard. */
import type { FirewallModel } from '../../firewall/firewall-model.ts';
import type { CompiledConfiguration, CompileResult } from '../../gateway/compile-configuration.ts';
import { planConfiguration } from '../../gateway/firewall-plan.ts';
import type { ChangeRecords } from '../store/change-records.ts';
import type { ChangeActs, Outcome } from './change-driver.ts';
import { restoreConfigFile, writeConfigFile } from './config-file.ts';
import type { ApplyResult, RulesetKeeper, WantedRuleset } from './ruleset-keeper.ts';

export interface ChangeActsOptions {
  readonly records: ChangeRecords;
  readonly configFile: string;
  readonly plan: () => RulesetChoice;
  readonly keeper: RulesetKeeper;
  readonly compile: (configText: string) => Promise<CompileResult>;
  /** What runs instead of a config that an older program took and this one does not. */
  readonly fallback: () => CompiledConfiguration | undefined;
  readonly alarm: (text: string) => void;
  /** Called when the ruleset of a configuration is in force. */
  readonly onInForce: (compiled: CompiledConfiguration) => void;
}

export type ForwardedTraffic = FirewallModel['forwardedTraffic'];

/** What decides about the ruleset besides the config. */
export interface RulesetChoice {
  /** Safe mode is on. */
  readonly isSafe: boolean;
  readonly forwardedTraffic: ForwardedTraffic;
}

export function changeActs(options: ChangeActsOptions): ChangeActs {
  const { records, configFile, plan, keeper, compile, fallback, alarm, onInForce } = options;
  return {
    storePending: (pending) => records.storePending(pending),
    storeConfirmed: (change) => {
      records.storeConfirmed(change, Date.now());
    },
    clearPending: () => records.clearPending(),
    applyRuleset: async ({ configText }, { previous }) => {
      const result = await compile(configText);
      const { problems } = result;
      let { compiled } = result;
      if (problems !== undefined && configText === previous.configText) {
        // The way back must not end here: an older program took it, and this one does not.
        alarm(`the config of before has problems by now, so another stays in force: ${problems}`);
        compiled = fallback();
      }
      if (compiled === undefined) return { success: false, reason: `${problems}`, unchanged: true };
      const chosen = compiled;
      return outcomeOf(
        await keeper.apply(() => wantedRuleset(chosen, plan()), {
          onSuccess: () => onInForce(chosen),
        }),
      );
    },
    writeConfig: (text, { id, previous }) =>
      writeConfigFile({ path: configFile, text, label: id, known: previous.configText }),
    restoreConfig: (text, { id }) => restoreConfigFile({ path: configFile, text, label: id }),
  };
}

/** What the kernel should have: safe mode stands above every config. */
export function wantedRuleset(
  { config, ruleset }: CompiledConfiguration,
  { isSafe, forwardedTraffic }: RulesetChoice,
): WantedRuleset {
  if (!isSafe) return { kind: 'config', ruleset };
  return { kind: 'safe', ruleset: planConfiguration(config, { safe: true, forwardedTraffic }) };
}

function outcomeOf(result: ApplyResult): Outcome {
  if (result.success) return result;
  const { failure, unchanged } = result;
  return { success: false, reason: describeNftFailure(failure), unchanged };
}

/** For a person: names the rule that is at fault, where it is one rule's. */
export function describeNftFailure({ message, rule }: { message: string; rule?: string }): string {
  return rule === undefined ? message : `rule ${rule} is refused: ${message}`;
}
