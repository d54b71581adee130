import assert from 'node:assert/strict';
import { test } from 'node:test';
import { runCommand } from './command-runner.ts';
import { withSshConnection } from './ssh-connection.ts';

const CONNECTION = '10.77.0.9 51234 10.77.0.1 22';
/** Only bounds a hang. */
const TIMEOUT_MS = 30_000;

test('what the environment names is taken', () => {
  const own = { SSH_CONNECTION: CONNECTION };
  assert.equal(withSshConnection(own), own);
});

test('behind sudo it is found with the process that had it', async () => {
  const module = JSON.stringify(new URL('./ssh-connection.ts', import.meta.url).href);
  const script = `import { withSshConnection } from ${module};
    console.log(withSshConnection(process.env).SSH_CONNECTION ?? 'nothing');`;
  const child = [process.execPath, '--input-type=module', '-e', script];
  // As sudo: it gives its child another environment.
  const parent = `process.stdout.write(
    require('child_process').execFileSync(...${JSON.stringify([child[0], child.slice(1)])}, {
      env: {},
    }));`;
  const result = await runCommand([process.execPath, '-e', parent], {
    timeoutMs: TIMEOUT_MS,
    env: { SSH_CONNECTION: CONNECTION },
  });
  assert.equal(result.stdout.trim(), CONNECTION, result.stderr);
});
