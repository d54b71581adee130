import assert from 'node:assert/strict';
import { syncBuiltinESMExports } from 'node:module';
import { mock, test } from 'node:test';
import threads, { type Worker } from 'node:worker_threads';
import { compileBounded } from './configuration-compiler.ts';

const fileName = 'gatehouse.yaml';
/** Longer than what is compiled without a thread of its own. */
const long = `version: 1\n${'# And so on.\n'.repeat(4_000)}`;

test('short and long, a config is compiled to the same', async () => {
  let threadCount = 0;
  const count = () => threadCount++;
  process.on('worker', count);
  try {
    const short = await compileBounded('version: 1\n', { fileName });
    assert.equal(threadCount, 0);
    const good = await compileBounded(long, { fileName });
    assert.equal(threadCount, 1);
    assert.ok(good.compiled !== undefined, good.problems ?? '');
    assert.deepEqual({ ...good.compiled, configText: 'version: 1\n' }, short.compiled);
    assert.equal(good.compiled.configText, long);
    const bad = await compileBounded(`${long}wans: {}\n`, { fileName });
    assert.match(bad.problems ?? '', /^gatehouse.yaml:4002:1: /);
  } finally {
    process.off('worker', count);
  }
});

test('a thread that dies, or has no memory left, is a problem of the config', async () => {
  const deaths: readonly ((worker: Worker) => void)[] = [
    (worker) => void worker.terminate(),
    (worker) => worker.emit('error', new Error('Worker terminated: reaching memory limit')),
  ];
  for (const die of deaths) {
    process.once('worker', die);
    const { problems } = await compileBounded(long, { fileName });
    assert.match(problems ?? '', /^gatehouse.yaml: cannot be compiled: (its thread|Worker t)/);
  }
});

test('survive-122 a thread that cannot be started is a problem, and no exception', async () => {
  const replaced = mock.method(threads, 'Worker', function none() {
    throw new Error('no thread is left');
  });
  syncBuiltinESMExports();
  try {
    const { problems } = await compileBounded(long, { fileName });
    assert.equal(problems, 'gatehouse.yaml: cannot be compiled: no thread is left');
  } finally {
    replaced.mock.restore();
    syncBuiltinESMExports();
  }
});

test('a config that takes longer than a minute is given up, and its thread is ended', async () => {
  mock.timers.enable({ apis: ['setTimeout'] });
  try {
    const started = Promise.withResolvers<Worker>();
    process.once('worker', (worker: Worker) => started.resolve(worker));
    const compiling = compileBounded(long, { fileName });
    const ended = new Promise<void>((resolve) => {
      void started.promise.then((worker) => worker.once('exit', () => resolve()));
    });
    mock.timers.tick(60_000);
    const { problems } = await compiling;
    assert.match(problems ?? '', /cannot be compiled: it took longer than 60000 ms$/);
    await ended;
  } finally {
    mock.timers.reset();
  }
});
