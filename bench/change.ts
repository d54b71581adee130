/**
 * What a safe change costs: the product's whole way from a config's text to the ruleset in force,
 * with everything on disk, against nft alone with the finished document.
 */

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Lab, type LabHost } from '../lab/lab.ts';
import { compileRuleset } from '../src/firewall/nft-document.ts';
import { compileConfiguration } from '../src/gateway/compile-configuration.ts';
import type { RunningProcess } from '../src/linux/command-runner.ts';
import { connectToControl } from '../src/linux/core/control-client.ts';
import { openNft } from '../src/linux/nft.ts';
import type { ControlClient } from '../src/messages/control-messages.ts';
import { type BenchRow, medians } from './table.ts';

/** Rules → rounds; an odd number, and no longer than a minute in all. */
const sizes = [
  { ruleCount: 10, rounds: 9 },
  { ruleCount: 1_000, rounds: 5 },
  { ruleCount: 10_000, rounds: 3 },
];

const gatehouse = join(import.meta.dirname, '../bin/gatehouse');
/** Only bounds a hang. */
const TIMEOUT_MS = 60_000;

export async function benchChange(): Promise<readonly BenchRow[]> {
  await using lab = await Lab.start({ hosts: { gateway: {}, other: {} } }, { name: 'bench' });
  const gateway = lab.host('gateway');
  const configFile = join(lab.directory, 'gatehouse.yaml');
  writeFileSync(configFile, configText(0, { folder: lab.directory }));
  const first = await start(gateway, configFile);
  const client = await connect(lab.directory);
  const rows: BenchRow[] = [];
  for (const { ruleCount, rounds } of sizes) {
    rows.push(await applyRow({ client, lab, ruleCount, rounds }));
  }
  client.close();
  await first.stop();
  rows.push(await startRow(gateway, configFile), await verbRow(gateway, configFile));
  return rows;
}

async function applyRow(options: {
  client: ControlClient;
  lab: Lab;
  ruleCount: number;
  rounds: number;
}): Promise<BenchRow> {
  const { client, lab, ruleCount, rounds } = options;
  const other = openNft({ networkNamespace: lab.host('other').namespacePath });
  let round = 0;
  const { safely, alone } = await medians(rounds, {
    safely: async () => {
      // Another text each time, so that nothing is known from before.
      const text = configText(ruleCount, { folder: lab.directory, label: `round ${round++}` });
      const terms = { author: 'bench', windowMs: 600_000, forced: true };
      const applied = await milliseconds(() =>
        expectChange(client.ask({ kind: 'apply', configText: text, ...terms })),
      );
      await expectChange(client.ask({ kind: 'rollback', author: 'bench' }));
      return applied;
    },
    alone: async () => {
      const text = configText(ruleCount, { folder: lab.directory });
      const { compiled } = compileConfiguration(text, { fileName: 'bench' });
      if (compiled === undefined) throw new Error('the config has problems');
      const document = compileRuleset(compiled.ruleset, { replacing: 'rules' });
      return milliseconds(() => other.apply(document));
    },
  });
  return {
    what: `apply a config of ${ruleCount} rules, to be confirmed`,
    figure: `${safely.toFixed(0)} ms`,
    peer: `nft with the finished document: ${alone.toFixed(0)} ms`,
    ratio: alone / safely,
  };
}

async function startRow(gateway: LabHost, configFile: string): Promise<BenchRow> {
  const { product, node } = await medians(5, {
    product: async () => {
      const startedAt = performance.now();
      const running = await start(gateway, configFile);
      const passed = performance.now() - startedAt;
      await running.stop();
      return passed;
    },
    node: () => milliseconds(() => emptyNode(gateway)),
  });
  return {
    what: 'from the start of `gatehouse run` until its rules are in force',
    figure: `${product.toFixed(0)} ms`,
    peer: `Node that does nothing: ${node.toFixed(0)} ms`,
    ratio: node / product,
  };
}

async function verbRow(gateway: LabHost, configFile: string): Promise<BenchRow> {
  const running = await start(gateway, configFile);
  const { verb, node } = await medians(9, {
    verb: () =>
      milliseconds(() =>
        gateway.run([gatehouse, '--config', configFile, 'status'], { timeoutMs: TIMEOUT_MS }),
      ),
    node: () => milliseconds(() => emptyNode(gateway)),
  });
  await running.stop();
  return {
    what: '`gatehouse status`',
    figure: `${verb.toFixed(0)} ms`,
    peer: `Node that does nothing: ${node.toFixed(0)} ms`,
    ratio: node / verb,
  };
}

async function start(gateway: LabHost, configFile: string): Promise<RunningProcess> {
  const running = gateway.spawn([gatehouse, 'run', '--config', configFile]);
  await running.waitForOutput(/^gatehouse .* runs/m, TIMEOUT_MS);
  return running;
}

function emptyNode(gateway: LabHost) {
  return gateway.run([process.execPath, '-e', '0'], { timeoutMs: TIMEOUT_MS });
}

async function connect(folder: string): Promise<ControlClient> {
  const connection = await connectToControl(join(folder, 'run'));
  if (connection.client === undefined) throw new Error(connection.reason);
  return connection.client;
}

async function expectChange(asked: ReturnType<ControlClient['ask']>): Promise<void> {
  const answer = await asked;
  if (answer.kind !== 'change') throw new Error(JSON.stringify(answer).slice(0, 500));
}

function configText(
  ruleCount: number,
  { folder, label = 'nothing' }: { folder: string; label?: string },
): string {
  const rules = Array.from({ length: ruleCount }, (_, index) => {
    const address = `198.51.${Math.trunc(index / 256) % 256}.${index % 256}`;
    const ends = `from: lan, to: wan, destination: [${address}], protocol: tcp`;
    return `    - { name: r${index}, action: drop, ${ends}, ports: [${1 + (index % 65_000)}] }\n`;
  });
  return `# ${label}
version: 1
wan: { interface: wan0, address: 198.51.100.1/24, gateway: 198.51.100.254 }
networks: { lan: { interfaces: [lan0], address: 10.77.0.1/24 } }
firewall:
  rules:${ruleCount === 0 ? ' []' : ''}
${rules.join('')}paths: { state: ${folder}/state, runtime: ${folder}/run }
`;
}

async function milliseconds(action: () => unknown): Promise<number> {
  const startedAt = performance.now();
  await action();
  return performance.now() - startedAt;
}
