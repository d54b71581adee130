import assert from 'node:assert/strict';
import { test } from 'node:test';
import { suggest } from './suggest.ts';

const keys = ['interface', 'interfaces', 'address', 'dhcp', 'nat'];

test('a word that was mistyped leads to the nearest one', () => {
  assert.equal(suggest('interfacs', keys), 'interface');
  assert.equal(suggest('interfacess', keys), 'interfaces');
  assert.equal(suggest('adress', keys), 'address');
  assert.equal(suggest('dchp', keys), 'dhcp');
  assert.equal(suggest('NAT', keys), 'nat');
});

test('a word that resembles none leads nowhere', () => {
  for (const word of ['', 'x', 'gateway', 'a'.repeat(1000)])
    assert.equal(suggest(word, keys), undefined);
  assert.equal(suggest('nat', []), undefined);
});
