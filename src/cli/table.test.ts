import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ControlQuestion } from '../messages/control-messages.ts';
import { exitCodes } from './exit-codes.ts';
import { type ControlReply, documentOf, SimulatedWorld, typed } from './simulated-world.ts';

function worldWith(core: (question: ControlQuestion) => ControlReply): SimulatedWorld {
  const world = new SimulatedWorld();
  world.core = core;
  return world;
}

test('all tables are listed with what the config has in them and what was added', async () => {
  const tables = [
    { name: 'nuisances', configuredCount: 2, addedCount: 117 },
    { name: 'friends', configuredCount: 0, addedCount: 0 },
  ];
  const world = worldWith(() => ({ kind: 'tables', tables }));
  assert.equal(await typed(world, 'table', 'show'), exitCodes.done);
  assert.deepEqual(world.stdout.split('\n'), [
    'table      by config  added',
    'nuisances  2          117',
    'friends    0          0',
    '',
  ]);
  assert.deepEqual(world.questions, [{ kind: 'get-tables' }]);
  const none = worldWith(() => ({ kind: 'tables', tables: [] }));
  await typed(none, 'table', 'show');
  assert.equal(none.stdout, 'no table\n');
});

test('one table is listed entry by entry, each with where it comes from and how long it stays', async () => {
  const world = worldWith(() => ({
    kind: 'table',
    table: 'bad',
    entries: [
      { prefix: '2001:db8::/32', origin: 'config' },
      { prefix: '192.0.2.7', origin: 'added' },
      { prefix: '192.0.2.8', origin: 'added', expiresInMs: 119_000 },
      { prefix: '192.0.2.9', origin: 'added', expiresInMs: 7_200_000 },
      { prefix: '192.0.2.10', origin: 'added', expiresInMs: 3 },
    ],
  }));
  await typed(world, 'table', 'show', 'bad');
  assert.deepEqual(world.stdout.split('\n'), [
    '2001:db8::/32  by config',
    '192.0.2.7      added',
    '192.0.2.8      added, for another 119s',
    '192.0.2.9      added, for another 2h',
    '192.0.2.10     added, for another 1s',
    '',
  ]);
});

test('what was added or removed is told, and what it lies in all the same', async () => {
  const entry = { kind: 'table-entry', table: 'bad', prefix: '192.0.2.7', isKept: true } as const;
  for (const [words, reply, stdout, stderr] of [
    [
      ['add', 'bad', '192.0.2.7/32', '--for', '10m'],
      { ...entry, outcome: 'added', expiresInMs: 600_000 },
      '192.0.2.7 is in bad now for 10m\n',
      '',
    ],
    [
      ['add', 'bad', '192.0.2.7'],
      { ...entry, outcome: 'renewed', coveredBy: '192.0.2.0/24' },
      '192.0.2.7 stays in bad without an end\n',
      'gatehouse: it is in the table anyway by 192.0.2.0/24\n',
    ],
    [
      ['remove', 'bad', '192.0.2.7'],
      { ...entry, outcome: 'removed', coveredBy: '192.0.2.7', isKept: false },
      '192.0.2.7 is no entry of bad any more\n',
      'gatehouse: it is still in the table by 192.0.2.7\n' +
        'gatehouse: the disk does not take it: a restart forgets it\n',
    ],
  ] as const) {
    const world = worldWith(() => reply);
    assert.equal(await typed(world, 'table', ...words), exitCodes.done);
    assert.deepEqual([world.stdout, world.stderr], [stdout, stderr]);
  }
});

test('the author goes along, and a refusal ends with its reason', async () => {
  const reason = 'the config in force has no table bad';
  const world = worldWith(() => ({ kind: 'refused', code: 'no-such-table', reason }));
  assert.equal(await typed(world, 'table', 'add', 'bad', '::1', '--json'), exitCodes.refused);
  const question = { kind: 'add-table-entry', table: 'bad', prefix: '::1', author: 'anna' };
  assert.deepEqual(world.questions, [question]);
  const error = { code: 'no-such-table', exitCode: exitCodes.refused, message: reason };
  assert.deepEqual(documentOf(world), { error });
});
