/** What happened to a change, as a sentence for log and status. */
import type { ChangeEvent, Refusal, RollbackCause } from './change-machine.ts';

export function describeChangeEvent(event: ChangeEvent): string {
  return `change ${event.changeId} ${whatHappened(event)}`;
}

function whatHappened(event: ChangeEvent): string {
  switch (event.kind) {
    case 'request-refused':
      return `was refused: ${describeRefusal(event.why)}`;
    case 'change-refused':
      return `was refused: ${event.reason}`;
    case 'change-applied':
      return 'is in force and waits to be confirmed';
    case 'change-confirmed':
      return 'is confirmed and stays';
    case 'confirmation-failed':
      return `could not be confirmed: ${event.reason}`;
    case 'rollback-begun': {
      const reason = event.reason === undefined ? '' : `: ${event.reason}`;
      return `is rolled back, since ${describeCause(event.cause)}${reason}`;
    }
    case 'change-rolled-back':
      return `was rolled back, since ${describeCause(event.cause)}`;
    case 'step-failed':
      return `failed at ${event.step}: ${event.reason}`;
  }
}

export function describeCause(cause: RollbackCause): string {
  return causes[cause];
}

export function describeRefusal(refusal: Refusal): string {
  return refusals[refusal];
}

const causes: Readonly<Record<RollbackCause, string>> = {
  'asked-for': 'somebody asked for it',
  'not-confirmed-in-time': 'it was not confirmed in time',
  'apply-failed': 'the ruleset could not be put in force',
  'not-stored': 'the state could not be written',
  interrupted: 'the program ended in the middle of it',
  rebooted: 'the machine was started anew before it was confirmed',
};

const refusals: Readonly<Record<Refusal, string>> = {
  busy: 'a change is under way',
  'window-out-of-range': 'the time to confirm must be between 5s and 24h',
  'cuts-own-access': 'it would cut the way in of whoever asks',
  'no-such-change': 'no such change is under way',
};
