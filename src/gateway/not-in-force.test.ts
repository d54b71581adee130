import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { exampleConfig } from '../config/example-config.ts';
import { parseConfig } from '../config/parse-config.ts';
import { arbitraryConfigText } from '../testing/config-texts.ts';
import { findNotInForce } from './not-in-force.ts';

const fileName = 'gatehouse.yaml';

function notInForce(text: string): string[] {
  const { config, problems } = parseConfig(text, { fileName });
  assert.ok(config, JSON.stringify(problems));
  return findNotInForce(config);
}

test('the example of the reference asks for all of this', () => {
  assert.deepEqual(notInForce(exampleConfig), [
    'wan.address: address and route are not set on the interface yet; set them by other means.',
    'networks: addresses of lan, guests are not set on their interfaces yet; ' +
      'set them by other means.',
    'networks: dhcp of lan, guests does not give addresses to clients yet.',
    "nat: 198.51.100.2, 198.51.100.3 not set on the WAN's interface yet; set by other means.",
    'dns: no questions are answered yet.',
    'api.listen: 10.77.0.1:8443, 127.0.0.1:8443 not served yet; ' +
      'only loopback addresses with `tls.mode: off` are.',
    'firewall.devices: schedules of console are not followed yet.',
    'firewall.devices: addresses of console are not given by DHCP yet.',
    'firewall.schedules: homework not followed yet.',

    'gatekeeper: nothing is protected yet.',
    'grantor: no requests are decided yet.',
  ]);
});

test('what nobody asks for is not named', () => {
  const api = 'api: { tls: { mode: off } }\n';
  assert.deepEqual(notInForce(`version: 1\n${api}`), []);
  assert.deepEqual(
    notInForce(
      `version: 1\n${api}dataplane: { fastPath: xdp }\n` +
        'firewall: { features: { f: { enabled: true } }, ' +
        'devices: { tv: { mac: "02:00:00:00:00:01" } } }\n',
    ),
    [],
  );
});

test('what is asked for in other ways is named, too', () => {
  const sentences = notInForce(
    [
      'version: 1',
      'wan: { interface: wan0, address: dhcp }',
      'networks: { lan: { interfaces: [a, b], address: 10.77.0.1/24 } }',
      'api: { listen: [127.0.0.1:8443, 10.77.0.1:8443], trustedProxies: [10.77.0.2] }',
      'firewall:',
      '  features: { f: { enabled: true, schedule: night } }',
      '  devices: { tv: { mac: "02:00:00:00:00:01", blocked: true } }',
      '  schedules: { night: { from: 22:00, to: 06:00 } }',
      '',
    ].join('\n'),
  );
  assert.deepEqual(
    sentences.filter((sentence) => !/^networks: addresses|^firewall.schedules/.test(sentence)),
    [
      'wan.address: no address is asked of the provider yet; start a DHCP client by other means.',
      'networks: the bridges of lan are not made yet; make them by other means.',
      'api.listen: 127.0.0.1:8443, 10.77.0.1:8443 not served yet; ' +
        'only loopback addresses with `tls.mode: off` are.',
      'api.trustedProxies: what a proxy says about its client is not believed yet.',
      'firewall.features: f with a schedule stay off, since none is followed yet.',
      'firewall.devices: tv not blocked yet; block by a rule with the address.',
    ],
  );
});

test('however long the lists and the names are, sentences stay few and short', () => {
  fc.assert(
    fc.property(arbitraryConfigText(), (text) => {
      const { config } = parseConfig(text, { fileName });
      const sentences = config === undefined ? [] : findNotInForce(config);
      assert.ok(sentences.length <= 64);
      assert.deepEqual(
        sentences.filter((sentence) => sentence.length > 200 || !sentence.endsWith('.')),
        [],
      );
    }),
    { numRuns: 200 },
  );
  const networks = Array.from({ length: 64 }, (_, index) => {
    const name = `n${'x'.repeat(29)}${String(index).padStart(2, '0')}`;
    return `  ${name}: { interfaces: [a${index}, b${index}], address: 10.${index}.0.1/16 }`;
  });
  const sentences = notInForce(['version: 1', 'networks:', ...networks, ''].join('\n'));
  assert.ok(sentences.every((sentence) => sentence.length <= 200));
  assert.match(sentences[0] ?? '', / and 61 more are not set/);
});
