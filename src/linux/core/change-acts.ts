/** What a change does to store, config file and kernel; the same for the core and the guard. */
import type { CompiledConfiguration, CompileResult } from '../../gateway/compile-configuration.ts';
import { planConfiguration } from '../../gateway/firewall-plan.ts';
import type { ChangeRecords } from '../store/change-records.ts';
import type { ChangeActs, Outcome } from './change-driver.ts';
import { restoreConfigFile, writeConfigFile } from './config-file.ts';
import type { ApplyResult, RulesetKeeper, WantedRuleset } from './ruleset-keeper.ts';
import { readSafeMode } from './safe-mode.ts';

export interface ChangeActsOptions {
  readonly records: ChangeRecords;
  readonly configFile: string;
  readonly stateFolder: string;
  readonly keeper: RulesetKeeper;
  readonly compile: (configText: string) => Promise<CompileResult>;
  /** Called when the ruleset of a configuration is in force. */
  readonly onInForce: (compiled: CompiledConfiguration) => void;
}

export function changeActs(options: ChangeActsOptions): ChangeActs {
  const { records, configFile, stateFolder, keeper, compile, onInForce } = options;
  return {
    storePending: (pending) => records.storePending(pending),
    storeConfirmed: (change) => {
      records.storeConfirmed(change, Date.now());
    },
    clearPending: () => records.clearPending(),
    applyRuleset: async ({ configText }) => {
      const { compiled, problems } = await compile(configText);
      if (compiled === undefined) return { success: false, reason: problems, unchanged: true };
      const result = await keeper.apply(wantedRuleset(compiled, stateFolder));
      if (result.success) onInForce(compiled);
      return outcomeOf(result);
    },
    writeConfig: (text) => writeConfigFile(configFile, text),
    restoreConfig: (text, { id }) => restoreConfigFile({ path: configFile, text, label: id }),
  };
}

/** What the kernel should have: safe mode stands above every config. */
export function wantedRuleset(
  { config, ruleset }: CompiledConfiguration,
  stateFolder: string,
): WantedRuleset {
  if (readSafeMode(stateFolder) === undefined) return { kind: 'config', ruleset };
  return { kind: 'safe', ruleset: planConfiguration(config, { safe: true }) };
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
