import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatTimeOfDay, parseTimeOfDay } from './time-of-day.ts';

test('every minute of the day is read back from its text', () => {
  for (let minute = 0; minute < 1440; minute++) {
    const two = (part: number) => String(part).padStart(2, '0');
    const text = `${two(Math.floor(minute / 60))}:${two(minute % 60)}`;
    const time = parseTimeOfDay(text);
    assert.equal(time, minute);
    assert.equal(time === undefined ? undefined : formatTimeOfDay(time), text);
  }
});

test('what is no time of day is refused', () => {
  for (const text of ['', '24:00', '9:00', '09:60', '09:0', '09.00', '09:00:00', '9pm', ' 09:00']) {
    assert.equal(parseTimeOfDay(text), undefined, text);
  }
});
