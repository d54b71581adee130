import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  type Change,
  type ChangeCommand,
  type ChangeEvent,
  type ChangeInput,
  ChangeMachine,
  type ChangePhase,
  type PendingChange,
  WINDOW_MS_MAX,
  WINDOW_MS_MIN,
} from './change-machine.ts';

const BOOT = 'boot-1';
const NOW = 1_000_000;
const WINDOW_MS = 60_000;

const change: Change = {
  id: 'c1',
  author: 'admin',
  previous: { configText: 'old config', rulesetText: 'old rules' },
  next: { configText: 'new config', rulesetText: 'new rules' },
  windowMs: WINDOW_MS,
};
const request: ChangeInput = { kind: 'request', change, cutsOwnAccess: false, forced: false };
const performed: ChangeInput = { kind: 'performed' };
const confirm: ChangeInput = { kind: 'confirm', changeId: 'c1' };
const rollback: ChangeInput = { kind: 'rollback', changeId: 'c1' };
const failed: ChangeInput = { kind: 'failed', reason: 'EIO', unchanged: false };
const refused: ChangeInput = { kind: 'failed', reason: 'no such set', unchanged: true };
const deadlineAt = NOW + WINDOW_MS;
const waitingPending: PendingChange = { phase: 'waiting', change, bootId: BOOT, deadlineAt };

const storeApplying: ChangeCommand = {
  kind: 'store-pending',
  pending: { phase: 'applying', change },
};
const storeWaiting: ChangeCommand = { kind: 'store-pending', pending: waitingPending };
const storeRollingBack: ChangeCommand = {
  kind: 'store-pending',
  pending: { phase: 'rolling-back', change },
};
const storeConfirmed: ChangeCommand = { kind: 'store-confirmed', change };
const applyNext: ChangeCommand = { kind: 'apply-ruleset', configuration: change.next };
const applyPrevious: ChangeCommand = { kind: 'apply-ruleset', configuration: change.previous };
const writeConfig: ChangeCommand = { kind: 'write-config', configText: 'new config' };
const restoreConfig: ChangeCommand = { kind: 'restore-config', configText: 'old config' };
const clear: ChangeCommand = { kind: 'clear-pending' };

type WithoutId<T> = T extends unknown ? Omit<T, 'changeId'> : never;
function report(event: WithoutId<ChangeEvent>): ChangeCommand {
  return { kind: 'report', event: { ...event, changeId: 'c1' } as ChangeEvent };
}

const applied = report({ kind: 'change-applied', deadlineAt });
const confirmed = report({ kind: 'change-confirmed' });

/** Inputs that bring a new machine into each phase, all at {@link NOW}. */
const ways: Record<ChangePhase, readonly ChangeInput[]> = {
  idle: [],
  storing: [request],
  applying: [request, performed],
  arming: [request, performed, performed],
  waiting: [request, performed, performed, performed],
  resuming: [],
  confirming: [request, performed, performed, performed, confirm],
  completing: [request, performed, performed, performed, confirm, performed],
  'rolling-back': [request, performed, performed, performed, rollback],
};

function machineIn(phase: ChangePhase): ChangeMachine {
  const machine = new ChangeMachine(BOOT);
  if (phase === 'resuming') machine.start(waitingPending, NOW);
  for (const input of ways[phase]) machine.handle(input, NOW);
  assert.equal(machine.phase, phase);
  return machine;
}

const busy = [report({ kind: 'request-refused', why: 'busy' })];
const nothing = [report({ kind: 'request-refused', why: 'no-such-change' })];
const rollingBack = (cause: Extract<ChangeEvent, { kind: 'rollback-begun' }>['cause']) => [
  report({ kind: 'rollback-begun', cause }),
  storeRollingBack,
];
const rollingBackAfter = (cause: Extract<ChangeEvent, { kind: 'rollback-begun' }>['cause']) => [
  report({ kind: 'rollback-begun', cause, reason: 'EIO' }),
  storeRollingBack,
];
const abandoned = (step: 'store-pending' | 'apply-ruleset', reason: string) => [
  report({ kind: 'change-refused', step, reason }),
  clear,
];
const stepFailed = (step: string) => report({ kind: 'step-failed', step, reason: 'EIO' });

type Column = 'request' | 'confirm' | 'rollback' | 'performed' | 'failed' | 'timeout';
type Row = Record<Column, readonly [ChangePhase, readonly ChangeCommand[]] | 'our bug'>;

/** Every phase with every input: where it leads, and what is to be done. Timeouts come late. */
const table: Record<ChangePhase, Row> = {
  idle: {
    request: ['storing', [storeApplying]],
    confirm: ['idle', nothing],
    rollback: ['idle', nothing],
    performed: 'our bug',
    failed: 'our bug',
    timeout: ['idle', []],
  },
  storing: {
    request: ['storing', busy],
    confirm: ['storing', busy],
    rollback: ['storing', busy],
    performed: ['applying', [applyNext]],
    failed: ['rolling-back', abandoned('store-pending', 'EIO')],
    timeout: ['storing', []],
  },
  applying: {
    request: ['applying', busy],
    confirm: ['applying', busy],
    rollback: ['applying', busy],
    performed: ['arming', [storeWaiting]],
    failed: ['rolling-back', rollingBackAfter('apply-failed')],
    timeout: ['applying', []],
  },
  arming: {
    request: ['arming', busy],
    confirm: ['arming', busy],
    rollback: ['arming', busy],
    performed: ['waiting', [applied]],
    failed: ['rolling-back', rollingBackAfter('not-stored')],
    timeout: ['arming', []],
  },
  waiting: {
    request: ['waiting', busy],
    confirm: ['confirming', [storeConfirmed]],
    rollback: ['rolling-back', rollingBack('asked-for')],
    performed: 'our bug',
    failed: 'our bug',
    timeout: ['rolling-back', rollingBack('not-confirmed-in-time')],
  },
  resuming: {
    request: ['resuming', busy],
    confirm: ['resuming', busy],
    rollback: ['resuming', busy],
    performed: ['waiting', [applied]],
    failed: ['rolling-back', rollingBackAfter('apply-failed')],
    timeout: ['resuming', []],
  },
  confirming: {
    request: ['confirming', busy],
    confirm: ['confirming', busy],
    rollback: ['confirming', busy],
    performed: ['completing', [confirmed, writeConfig]],
    failed: ['waiting', [report({ kind: 'confirmation-failed', reason: 'EIO' })]],
    timeout: ['confirming', []],
  },
  completing: {
    request: ['completing', busy],
    confirm: ['completing', busy],
    rollback: ['completing', busy],
    performed: ['completing', [clear]],
    failed: ['completing', [stepFailed('write-config')]],
    timeout: ['completing', []],
  },
  'rolling-back': {
    request: ['rolling-back', busy],
    confirm: ['rolling-back', busy],
    rollback: ['rolling-back', busy],
    performed: ['rolling-back', [applyPrevious]],
    failed: ['rolling-back', [stepFailed('store-pending'), applyPrevious]],
    timeout: ['rolling-back', []],
  },
};

const inputs: Record<Exclude<Column, 'timeout'>, ChangeInput> = {
  request,
  confirm,
  rollback,
  performed,
  failed,
};

describe('the whole transition table', () => {
  for (const [phase, row] of Object.entries(table) as [ChangePhase, Row][]) {
    for (const [column, expected] of Object.entries(row) as [Column, Row[Column]][]) {
      test(`${column} while ${phase}`, () => {
        const machine = machineIn(phase);
        const act = () =>
          column === 'timeout'
            ? machine.handleTimeout(deadlineAt)
            : machine.handle(inputs[column], NOW);
        if (expected === 'our bug') {
          assert.throws(act, /while/);
          assert.equal(machine.phase, phase);
          return;
        }
        const [next, commands] = expected;
        assert.deepEqual(act(), commands);
        assert.equal(machine.phase, next);
      });
    }
  }
});

describe('after a restart', () => {
  const start = (pending: PendingChange | undefined, now: number, bootId = BOOT) => {
    const machine = new ChangeMachine(bootId);
    return { commands: machine.start(pending, now), machine };
  };

  test('nothing pending leaves it idle', () => {
    const { commands, machine } = start(undefined, NOW);
    assert.deepEqual(commands, []);
    assert.equal(machine.phase, 'idle');
  });

  test('a change whose outcome is not known is rolled back at once', () => {
    const { commands } = start({ phase: 'applying', change }, NOW);
    assert.deepEqual(commands, rollingBack('interrupted'));
  });

  test('a roll-back that was begun goes on', () => {
    const { commands } = start({ phase: 'rolling-back', change }, NOW);
    assert.deepEqual(commands, rollingBack('interrupted'));
  });

  test('a confirmed change is applied again and completed', () => {
    const { commands, machine } = start({ phase: 'confirmed', change }, NOW);
    assert.deepEqual(commands, [confirmed, applyNext]);
    assert.deepEqual(machine.handle(performed, NOW), [writeConfig]);
    assert.deepEqual(machine.handle(performed, NOW), [clear]);
    assert.deepEqual(machine.handle(performed, NOW), []);
    assert.equal(machine.phase, 'idle');
  });

  test('in the same boot the timer goes on with what was left', () => {
    const { commands, machine } = start(waitingPending, NOW + 20_000);
    assert.deepEqual(commands, [applyNext]);
    assert.deepEqual(machine.handle(performed, NOW + 21_000), [applied]);
    assert.equal(machine.nextDeadline(), deadlineAt);
  });

  test('a deadline that passes while the rules are applied again still counts', () => {
    const { machine } = start(waitingPending, NOW + 59_999);
    assert.deepEqual(machine.handle(performed, deadlineAt), rollingBack('not-confirmed-in-time'));
  });

  test('a deadline that has passed rolls back at once', () => {
    const { commands } = start(waitingPending, deadlineAt);
    assert.deepEqual(commands, rollingBack('not-confirmed-in-time'));
  });

  test('after a reboot in the window it is rolled back at once', () => {
    const { commands } = start(waitingPending, NOW, 'boot-2');
    assert.deepEqual(commands, rollingBack('rebooted'));
  });

  test('a deadline further away than the window is doubt, and rolled back', () => {
    const { commands } = start(waitingPending, NOW - 1);
    assert.deepEqual(commands, rollingBack('not-confirmed-in-time'));
  });
});

test('survive-109: a change that would cut its author off is refused unless forced', () => {
  const machine = new ChangeMachine(BOOT);
  const cutting = { ...request, cutsOwnAccess: true };
  const why = report({ kind: 'request-refused', why: 'cuts-own-access' });
  assert.deepEqual(machine.handle(cutting, NOW), [why]);
  assert.equal(machine.phase, 'idle');
  assert.deepEqual(machine.handle({ ...cutting, forced: true }, NOW), [storeApplying]);
});

test('a window that is too short, too long or no number is refused', () => {
  for (const windowMs of [WINDOW_MS_MIN - 1, WINDOW_MS_MAX + 1, Number.NaN]) {
    const machine = new ChangeMachine(BOOT);
    const why = report({ kind: 'request-refused', why: 'window-out-of-range' });
    const input: ChangeInput = { ...request, change: { ...change, windowMs } };
    assert.deepEqual(machine.handle(input, NOW), [why]);
  }
});

test('what nft refuses leaves everything as it was', () => {
  const machine = machineIn('applying');
  assert.deepEqual(machine.handle(refused, NOW), abandoned('apply-ruleset', 'no such set'));
  assert.deepEqual(machine.handle(performed, NOW), []);
  assert.equal(machine.phase, 'idle');
});

test('survive-109: without a confirmation, ruleset and config come back', () => {
  const machine = machineIn('waiting');
  assert.equal(machine.nextDeadline(), deadlineAt);
  assert.deepEqual(machine.handleTimeout(deadlineAt - 1), []);
  machine.handleTimeout(deadlineAt);
  assert.deepEqual(machine.handle(performed, deadlineAt), [applyPrevious]);
  assert.deepEqual(machine.handle(performed, deadlineAt), [restoreConfig]);
  assert.deepEqual(machine.handle(performed, deadlineAt), [clear]);
  const cause = 'not-confirmed-in-time';
  const done = report({ kind: 'change-rolled-back', cause });
  assert.deepEqual(machine.handle(performed, deadlineAt), [done]);
  assert.equal(machine.phase, 'idle');
});

test('a confirmation that comes too late rolls back', () => {
  const machine = machineIn('waiting');
  assert.deepEqual(machine.handle(confirm, deadlineAt), rollingBack('not-confirmed-in-time'));
});

test('a confirmation of another change is refused', () => {
  const machine = machineIn('waiting');
  const other = { kind: 'confirm', changeId: 'c2' } as const;
  const event = { kind: 'request-refused', changeId: 'c2', why: 'no-such-change' } as const;
  assert.deepEqual(machine.handle(other, NOW), [{ kind: 'report', event }]);
  assert.equal(machine.phase, 'waiting');
});

test('a step back that fails is tried again, later and later, and the others do not wait', () => {
  const machine = machineIn('rolling-back');
  machine.handle(performed, NOW);
  assert.deepEqual(machine.handle(failed, NOW), [stepFailed('apply-ruleset')]);
  assert.equal(machine.nextDeadline(), NOW + 1000);
  assert.deepEqual(machine.handleTimeout(NOW + 999), []);
  assert.deepEqual(machine.handleTimeout(NOW + 1000), [restoreConfig]);
  assert.deepEqual(machine.handle(performed, NOW + 1000), [applyPrevious]);
  let now = NOW + 1000;
  for (const delayMs of [2000, 4000, 8000, 16_000, 30_000, 30_000]) {
    assert.deepEqual(machine.handle(failed, now), [stepFailed('apply-ruleset')]);
    now += delayMs;
    assert.equal(machine.nextDeadline(), now);
    assert.deepEqual(machine.handleTimeout(now), [applyPrevious]);
  }
  assert.deepEqual(machine.handle(performed, now), [clear]);
});
