import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { afterEach, test } from 'node:test';
import { describeFailure, logCommandsTo, runCommand, startProcess } from './command-runner.ts';

/** Only bounds a hang; no test waits for it. */
const TIMEOUT_MS = 20_000;

afterEach(() => logCommandsTo(() => {}));

/** This same Node, running a line of JavaScript. */
const node = (source: string) => [process.execPath, '-e', source] as const;

test('a command returns its output, its errors and its code', async () => {
  const source = 'console.log("out"); console.error("err"); process.exitCode = 3';
  const result = await runCommand(node(source), { timeoutMs: TIMEOUT_MS });
  assert.deepEqual(result, {
    success: false,
    stdout: 'out\n',
    stderr: 'err\n',
    code: 3,
    signal: null,
    timedOut: false,
    truncated: false,
  });
  assert.match(describeFailure(['x', 'y'], result), /^x y: failed with code 3: err$/);
});

test('arguments reach the program as they are, without a shell', async () => {
  const argv = [...node('console.log(JSON.stringify(process.argv.slice(1)))'), '$HOME; a "b" *'];
  const result = await runCommand(argv as [string, ...string[]], { timeoutMs: TIMEOUT_MS });
  assert.equal(result.stdout, '["$HOME; a \\"b\\" *"]\n');
  assert.equal(result.success, true);
});

test('input is written to stdin, and a program that does not read it is no error', async () => {
  const echo = await runCommand(['cat'], { timeoutMs: TIMEOUT_MS, input: 'hello' });
  assert.equal(echo.stdout, 'hello');
  const input = new Uint8Array(4 * 1024 * 1024);
  const deaf = await runCommand(['true'], { timeoutMs: TIMEOUT_MS, input });
  assert.equal(deaf.success, true);
});

test('a missing program is a failed result that names it', async () => {
  for (const killWithParent of [false, true]) {
    const options = { timeoutMs: TIMEOUT_MS, killWithParent };
    const result = await runCommand(['/nonexistent/program'], options);
    assert.equal(result.success, false);
    assert.equal(result.error, 'cannot run /nonexistent/program: no such program');
  }
});

test('a missing network namespace is a failed result that names it', async () => {
  const networkNamespace = '/run/netns/gatehouse-none';
  const result = await runCommand(['true'], { timeoutMs: TIMEOUT_MS, networkNamespace });
  assert.equal(result.success, false);
  assert.match(result.error ?? '', /cannot run true: .*gatehouse-none/);
});

test('an argument that no program can be given is a failed result', async () => {
  const result = await runCommand(['true', 'nul\0byte'], { timeoutMs: TIMEOUT_MS });
  assert.equal(result.success, false);
  assert.match(result.error ?? '', /cannot run true/);
});

test('the time limit ends the command with everything that it started', async () => {
  // The grandchild holds stdout open: the call would hang if only the child were killed.
  const source = `
    const { spawn } = require('node:child_process');
    const grandchild = spawn('sleep', ['1000'], { stdio: 'inherit' });
    console.log(grandchild.pid);
    setInterval(() => {}, 1000);`;
  const result = await runCommand(node(source), { timeoutMs: 1500 });
  assert.equal(result.timedOut, true);
  assert.equal(result.success, false);
  assert.match(result.error ?? '', /ran longer than 1500 ms/);
  await untilDead(Number(result.stdout));
});

test('a child killed by a signal is an ordinary failure', async () => {
  const result = await runCommand(node('process.kill(process.pid, "SIGSEGV")'), {
    timeoutMs: TIMEOUT_MS,
  });
  assert.equal(result.success, false);
  assert.equal(result.signal, 'SIGSEGV');
  assert.equal(result.code, null);
  assert.equal(result.timedOut, false);
});

test('output beyond the limit is cut and flagged while the command goes on', async () => {
  const source = 'process.stdout.write("x".repeat(300_000)); console.error("end")';
  const result = await runCommand(node(source), { timeoutMs: TIMEOUT_MS, outputBytesMax: 1000 });
  assert.equal(result.stdout, 'x'.repeat(1000));
  assert.equal(result.stderr, 'end\n');
  assert.equal(result.truncated, true);
  assert.equal(result.success, true);
});

test('output of exactly the limit is not flagged', async () => {
  const source = 'process.stdout.write("x".repeat(1000))';
  const result = await runCommand(node(source), { timeoutMs: TIMEOUT_MS, outputBytesMax: 1000 });
  assert.equal(result.stdout.length, 1000);
  assert.equal(result.truncated, false);
});

test('an abort signal kills the command, also when it was given before', async () => {
  const abort = new AbortController();
  const options = { timeoutMs: TIMEOUT_MS, signal: abort.signal, onCommand: () => abort.abort() };
  for (const argv of [['sleep', '1000'] as const, ['sleep', '1000'] as const]) {
    const result = await runCommand(argv, options);
    assert.equal(result.success, false);
    assert.equal(result.error, 'sleep was aborted');
    assert.equal(result.timedOut, false);
  }
});

test('the hook sees the command before it runs, and variables are added', async () => {
  const seen: string[][] = [];
  const argv = node('console.log(process.env.GATEHOUSE_TEST, process.env.PATH !== undefined)');
  const result = await runCommand(argv, {
    timeoutMs: TIMEOUT_MS,
    env: { GATEHOUSE_TEST: 'yes' },
    onCommand: (command) => seen.push([...command]),
  });
  assert.equal(result.stdout, 'yes true\n');
  assert.deepEqual(seen, [[...argv]]);
});

test('every command is logged before it starts, one that cannot be started too', async () => {
  const lines: string[] = [];
  logCommandsTo((line) => lines.push(line));
  await runCommand(['true', '-f', '/etc/x.yaml', 'a=b,c@d%e+f'], { timeoutMs: TIMEOUT_MS });
  const running = startProcess(['/nonexistent/program']);
  assert.deepEqual(lines, ['run: true -f /etc/x.yaml a=b,c@d%e+f', 'run: /nonexistent/program']);
  await running.exited;
});

test('secrets reach the command and neither the log nor the hook', async () => {
  const lines: string[] = [];
  const seen: string[][] = [];
  logCommandsTo((line) => lines.push(line));
  const argv = ['echo', '-n', '--key=hunter22', 'hunter2', 'x'] as const;
  const result = await runCommand(argv, {
    timeoutMs: TIMEOUT_MS,
    secrets: ['', 'hunter2', 'hunter22'],
    onCommand: (command) => seen.push([...command]),
  });
  assert.equal(result.stdout, '--key=hunter22 hunter2 x');
  assert.deepEqual(seen, [['echo', '-n', '--key=***', '***', 'x']]);
  assert.deepEqual(lines, ['run: echo -n "--key=***" "***" x']);
});

test('whatever the arguments are, the log gets one printable line of bounded words', async () => {
  const lines: string[] = [];
  logCommandsTo((line) => lines.push(line));
  const argv = [
    'true',
    '',
    'a b',
    'x\nrun: rm -rf /',
    '\u001b[31m"\u202e\ud83d',
    'y'.repeat(5_000),
  ];
  await runCommand(argv as [string, ...string[]], { timeoutMs: TIMEOUT_MS });
  const escaped = String.raw`"" "a b" "x\nrun: rm -rf /" "\u001b[31m\"\u202e\ud83d"`;
  assert.deepEqual(lines, [`run: true ${escaped} "${'y'.repeat(200)}…"`]);
});

test('a started process is waited for by its output, fed and stopped', async () => {
  const running = startProcess(['cat']);
  running.writeInput('one\n');
  const [word] = await running.waitForOutput(/one/, TIMEOUT_MS);
  assert.equal(word, 'one');
  assert.deepEqual(await running.stop(), { code: null, signal: 'SIGTERM' });
  await assert.rejects(running.waitForOutput(/two/, TIMEOUT_MS), /cat ended without printing/);
});

test('a process that ignores SIGTERM is killed after the grace', async () => {
  const running = startProcess(
    node('process.on("SIGTERM", () => {}); setInterval(() => {}, 1000); console.log("ready")'),
  );
  await running.waitForOutput(/ready/, TIMEOUT_MS);
  assert.equal((await running.stop(50)).signal, 'SIGKILL');
});

test('a started process keeps the end of its output', async () => {
  const running = startProcess(node('console.log("a".repeat(100_000) + "last")'), {
    outputBytesMax: 100,
  });
  assert.equal((await running.exited).code, 0);
  assert.equal(running.output().stdout, `${'a'.repeat(95)}last\n`);
});

test('a process that cannot be started says so by its exit', async () => {
  const running = startProcess(['/nonexistent/program']);
  const { error } = await running.exited;
  assert.equal(error, 'cannot run /nonexistent/program: no such program');
  await assert.rejects(running.waitForOutput(/x/, TIMEOUT_MS));
  assert.deepEqual((await running.stop()).error, error);
});

test('a child with killWithParent dies with its parent', async () => {
  const runner = new URL('./command-runner.ts', import.meta.url).href;
  const source = `
    const { startProcess } = await import(${JSON.stringify(runner)});
    const argv = [process.execPath, '-e', 'console.log("up"); setInterval(() => {}, 1000)'];
    const child = startProcess(argv, { killWithParent: true });
    await child.waitForOutput(/up/, ${TIMEOUT_MS});
    console.log(child.pid);`;
  const parent = startProcess([process.execPath, '--input-type=module', '-e', source]);
  const [pid] = await parent.waitForOutput(/^\d+$/m, TIMEOUT_MS);
  process.kill(parent.pid ?? 0, 'SIGKILL');
  await parent.exited;
  await untilDead(Number(pid));
});

/** Waits until a process runs no more; one that nobody has collected yet is dead already. */
async function untilDead(pid: number): Promise<void> {
  assert.ok(pid > 1);
  const state = () => {
    try {
      return readFileSync(`/proc/${pid}/stat`, 'latin1').match(/\) (.)/)?.[1];
    } catch {
      return undefined;
    }
  };
  const deadline = performance.now() + TIMEOUT_MS;
  for (let now = state(); now !== undefined && now !== 'Z' && now !== 'X'; now = state()) {
    assert.ok(performance.now() < deadline, `process ${pid} is still in state ${now}`);
    await new Promise(setImmediate);
  }
}
