/** The panic button without a running core: from the console, whatever else is broken. */
import type { ActionResult } from '../../gateway/action-result.ts';
import {
  type CompiledConfiguration,
  compileConfiguration,
} from '../../gateway/compile-configuration.ts';
import { planConfiguration } from '../../gateway/firewall-plan.ts';
import { openNft } from '../nft.ts';
import { setForwarding } from '../nft-default-posture.ts';
import { readChangesAtRest } from '../store/change-records.ts';
import { describeNftFailure } from './change-acts.ts';
import { readConfigFile } from './config-file.ts';
import { forwardedTrafficInKernel } from './nat-object.ts';
import { raiseGenerationInKernel } from './rules-generation.ts';
import { RulesetKeeper } from './ruleset-keeper.ts';
import { switchSafeModeOn } from './safe-mode.ts';

/**
 * Loads the minimal ruleset of the config file, or where that has problems, of the last config that
 * was confirmed. A core that starts later, or hangs and comes back, keeps to it.
 */
export async function loadSafeRuleset(options: {
  readonly configFile: string;
  readonly stateFolder: string;
  readonly author: string;
}): Promise<ActionResult> {
  const { stateFolder, author } = options;
  const lines: string[] = [];
  const compiled = findConfiguration(options, lines);
  if (compiled === undefined) return { success: false, reason: lines.join('\n') };
  try {
    // First: a core that hangs takes our ruleset for somebody else's change when it comes back.
    switchSafeModeOn(stateFolder, { sinceMs: Date.now(), author });
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    lines.push(`the next start of gatehouse leaves safe mode: ${reason}`);
  }
  const forwardedTraffic = forwardedTrafficInKernel();
  const ruleset = planConfiguration(compiled.config, { safe: true, forwardedTraffic });
  const keeper = new RulesetKeeper({
    nft: openNft(),
    restores: () => false,
    onForeignChange: () => undefined,
    onRulesChange: raiseGenerationInKernel,
    alarm: () => {},
  });
  try {
    const result = await keeper.apply(() => ({ kind: 'safe', ruleset }));
    if (!result.success) return { success: false, reason: describeNftFailure(result.failure) };
    setForwarding(true);
    return { success: true, lines };
  } finally {
    await keeper.stop();
  }
}

function findConfiguration(
  { configFile, stateFolder }: { configFile: string; stateFolder: string },
  lines: string[],
): CompiledConfiguration | undefined {
  const file = readConfigFile(configFile);
  const candidates = [
    { name: configFile, text: file.text, reason: file.reason },
    {
      name: 'the last confirmed config',
      text: readChangesAtRest(stateFolder).configText,
      reason: `${stateFolder} has no config that was confirmed`,
    },
  ];
  for (const { name, text, reason } of candidates) {
    if (text === undefined) {
      lines.push(`${reason}`);
      continue;
    }
    const { compiled, problems } = compileConfiguration(text, { fileName: name });
    if (compiled !== undefined) return compiled;
    lines.push(problems);
  }
  return undefined;
}
