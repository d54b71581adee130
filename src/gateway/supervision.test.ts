import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Supervision, type SupervisionCommand, supervisionLimits } from './supervision.ts';

function brief(commands: readonly SupervisionCommand[]): string[] {
  return commands
    .filter((command) => command.kind !== 'report-status')
    .map((command) => `${command.kind} ${command.role}`);
}

function running(...roles: string[]): Supervision {
  const supervision = new Supervision(roles);
  supervision.start(0);
  for (const role of roles) supervision.handleReady(role, 0);
  return supervision;
}

function phase(supervision: Supervision, role = 'api'): string | undefined {
  return supervision.statuses().find((status) => status.role === role)?.phase;
}

test('all roles are started at once and run when they say that they are ready', () => {
  const supervision = new Supervision(['api', 'dns']);
  assert.deepEqual(brief(supervision.start(0)), ['start-role api', 'start-role dns']);
  supervision.handleReady('dns', 40);
  assert.equal(phase(supervision, 'api'), 'starting');
  assert.equal(phase(supervision, 'dns'), 'running');
});

test('survive-120 a role that ends is started again within a second, the others untouched', () => {
  const supervision = running('api', 'dns');
  supervision.handleExit('api', 'SIGKILL', 1_000);
  assert.equal(supervision.nextDeadline(), 1_250);
  assert.deepEqual(brief(supervision.handleTimeout(1_250)), ['start-role api']);
  supervision.handleReady('api', 1_300);
  assert.equal(phase(supervision, 'dns'), 'running');
  assert.deepEqual(supervision.statuses()[0], {
    role: 'api',
    phase: 'running',
    restartCount: 1,
    lastExit: 'SIGKILL',
    sinceAt: 1_300,
  });
});

test('survive-120 a role that always ends at once is started at most five times a minute', () => {
  const supervision = new Supervision(['api']);
  supervision.start(0);
  const startedAt = [0];
  let now = 0;
  while (now < 600_000) {
    supervision.handleExit('api', 'code 1', now);
    now = supervision.nextDeadline() ?? assert.fail('no restart is planned');
    assert.deepEqual(brief(supervision.handleTimeout(now)), ['start-role api']);
    startedAt.push(now);
  }
  const restarts = startedAt.slice(1);
  for (const from of restarts) {
    const inMinute = restarts.filter((at) => at >= from && at < from + 60_000).length;
    assert.ok(inMinute <= 5, `${inMinute} restarts in the minute from ${from} ms`);
  }
});

test('a role that ran long enough is started again as quickly as the first time', () => {
  const supervision = running('api');
  for (let round = 0; round < 4; round++) {
    supervision.handleExit('api', 'code 1', 0);
    supervision.handleTimeout(supervision.nextDeadline() ?? 0);
  }
  supervision.handleReady('api', 100_000);
  const endedAt = 100_000 + supervisionLimits.stableAfterMs;
  supervision.handleExit('api', 'code 1', endedAt);
  assert.equal(supervision.nextDeadline(), endedAt + supervisionLimits.restartAfterMs);
});

test('survive-123 a role that does not answer a ping is killed once, then started again', () => {
  const supervision = running('api');
  assert.deepEqual(brief(supervision.handleTimeout(2_000)), ['ping-role api']);
  assert.deepEqual(brief(supervision.handleTimeout(6_999)), []);
  const commands = supervision.handleTimeout(7_000);
  assert.deepEqual(commands, [
    { kind: 'kill-role', role: 'api', reason: 'did not answer for 5000 ms' },
  ]);
  assert.equal(supervision.nextDeadline(), undefined);
  assert.deepEqual(supervision.handlePong('api', 7_001), []);
  supervision.handleExit('api', 'SIGKILL', 7_010);
  assert.deepEqual(brief(supervision.handleTimeout(7_260)), ['start-role api']);
});

test('an answer in time keeps a role alive, one unasked for changes nothing', () => {
  const supervision = running('api');
  supervision.handlePong('api', 100);
  assert.equal(supervision.nextDeadline(), 2_000);
  supervision.handleTimeout(2_000);
  supervision.handlePong('api', 2_010);
  assert.equal(supervision.nextDeadline(), 4_010);
});

test('a role that is never ready is killed and started again', () => {
  const supervision = new Supervision(['api']);
  supervision.start(0);
  const [kill] = supervision.handleTimeout(15_000);
  assert.deepEqual(kill, {
    kind: 'kill-role',
    role: 'api',
    reason: 'was not ready within 15000 ms',
  });
  assert.deepEqual(brief(supervision.handleReady('api', 15_001)), []);
  assert.equal(phase(supervision), 'starting');
});

test('after a stop nothing is started any more', () => {
  const supervision = running('api', 'dns', 'dhcp');
  supervision.handleExit('dhcp', 'code 1', 5);
  assert.deepEqual(brief(supervision.stop(10)), ['kill-role api', 'kill-role dns']);
  assert.equal(phase(supervision, 'dhcp'), 'stopped');
  supervision.handleExit('api', 'SIGTERM', 20);
  supervision.handleExit('dns', 'SIGTERM', 20);
  assert.equal(supervision.nextDeadline(), undefined);
  assert.ok(supervision.statuses().every((status) => status.phase === 'stopped'));
});

test('whatever happens, each role has one process at most, and one is always to come', () => {
  const step = fc.record({
    what: fc.constantFrom('ready', 'pong', 'exit', 'wait'),
    role: fc.constantFrom('api', 'dns'),
    afterMs: fc.nat(20_000),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
      const supervision = new Supervision(['api', 'dns']);
      const alive = new Set<string>();
      const perform = (commands: readonly SupervisionCommand[]): void => {
        for (const command of commands) {
          if (command.kind === 'start-role') {
            assert.ok(!alive.has(command.role), `two processes of ${command.role}`);
            alive.add(command.role);
          } else if (command.kind !== 'report-status') {
            assert.ok(alive.has(command.role), `${command.kind} without a process`);
          }
        }
      };
      let now = 0;
      perform(supervision.start(now));
      for (const { what, role, afterMs } of steps) {
        now += afterMs;
        perform(supervision.handleTimeout(now));
        if (what === 'ready') perform(supervision.handleReady(role, now));
        if (what === 'pong') perform(supervision.handlePong(role, now));
        if (what === 'exit' && alive.delete(role)) {
          perform(supervision.handleExit(role, 'code 1', now));
        }
        const waiting = supervision.statuses().filter((status) => !alive.has(status.role));
        if (waiting.length > 0) assert.notEqual(supervision.nextDeadline(), undefined);
      }
    }),
  );
});
