/** From the text of a config file to everything that follows from it alone. */
import { formatConfigProblems } from '../config/config-problem.ts';
import { migrateConfig } from '../config/migrate-config.ts';
import { type ConfigResult, parseConfig } from '../config/parse-config.ts';
import type { Config } from '../config/schema.ts';
import { findModelFaults } from '../firewall/firewall-model.ts';
import { formatRuleset } from '../firewall/format-ruleset.ts';
import type { Ruleset } from '../firewall/ruleset.ts';
import {
  type FirewallPlanOptions,
  findNotInForce,
  firewallModelOf,
  planConfiguration,
} from './firewall-plan.ts';

export interface CompiledConfiguration {
  /** As it was given, in whatever version. */
  readonly configText: string;
  readonly config: Config;
  /** That of the config, also while safe mode holds another in force. */
  readonly ruleset: Ruleset;
  readonly rulesetText: string;
  /** What the config asks for and this version does not do yet. */
  readonly notInForce: readonly string[];
}

export interface CompileOptions extends FirewallPlanOptions {
  /** How problems call the file. */
  readonly fileName: string;
}

export type CompileResult =
  | { readonly compiled: CompiledConfiguration; readonly problems?: never }
  /** One a line. */
  | { readonly compiled?: never; readonly problems: string };

/** Never throws, whatever the text is. Ten thousand rules take seconds. */
export function compileConfiguration(
  configText: string,
  { fileName, ...plan }: CompileOptions,
): CompileResult {
  const parsed = parseAnyVersion(configText, fileName);
  if (parsed.config === undefined) return { problems: formatConfigProblems(parsed.problems) };
  const { config } = parsed;
  const faults = findModelFaults(firewallModelOf(config, plan));
  if (faults.length > 0) {
    const lines = faults.map(({ path, message }) => `${fileName}: ${path}: ${message}`);
    return { problems: lines.join('\n') };
  }
  const ruleset = planConfiguration(config, { ...plan, safe: false });
  const rulesetText = formatRuleset(ruleset);
  return {
    compiled: { configText, config, ruleset, rulesetText, notInForce: findNotInForce(config) },
  };
}

/** Reading a file takes far longer than all the rest, so an older one alone is read twice. */
function parseAnyVersion(configText: string, fileName: string): ConfigResult {
  const parsed = parseConfig(configText, { fileName });
  if (parsed.config !== undefined || parsed.problems[0]?.path !== 'version') return parsed;
  const migrated = migrateConfig(configText, { fileName });
  if (migrated.text === undefined) return { problems: migrated.problems };
  return parseConfig(migrated.text, { fileName });
}
