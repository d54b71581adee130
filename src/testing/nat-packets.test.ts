import assert from 'node:assert/strict';
import { test } from 'node:test';
import { requireIpAddress } from '../net/ip-address.ts';
import { ipFrame } from './ip-frame.ts';
import { authentication, destinationOptions, hopByHop, ipv6Fragments } from './ipv6-packets.ts';
import { describeFrame, icmpError, ipBytes, ping, rawIp, tcp, udp } from './nat-packets.ts';

const host = '2001:db8:1::2';
const remote = '2001:db8:2::1';
const question = udp(`[${host}]:5000 > [${remote}]:53`);

test('packets of IPv6 are those that another builder makes', () => {
  const addresses = { source: requireIpAddress(host), destination: requireIpAddress(remote) };
  const common = { ...addresses, destinationMac: '02:00:00:00:00:02', hopLimit: 64 };
  const ports = { sourcePort: 5000, destinationPort: 53 };
  const withSourceMac = { ...common, sourceMac: '02:00:00:00:00:01' };
  assert.deepEqual(question, ipFrame({ ...withSourceMac, content: { protocol: 'udp', ...ports } }));
  const syn = { protocol: 'tcp', flags: 2, ...ports } as const;
  assert.deepEqual(
    tcp(`[${host}]:5000 > [${remote}]:53`, 'S'),
    ipFrame({ ...withSourceMac, content: syn }),
  );
  const quoted = ipBytes(question);
  assert.deepEqual(
    icmpError(`${host} > ${remote}`, { type: 1, quoted: question }),
    ipFrame({ ...withSourceMac, content: { protocol: 'icmpv6', type: 1, quoted } }),
  );
});

test('a chain of extension headers stands in order, each with what comes next', () => {
  const extensions = [hopByHop(), destinationOptions(16), authentication(12)];
  const bytes = ipBytes(rawIp(`${host} > ${remote}`, 253, { extensions }));
  assert.equal(bytes[4], 0);
  assert.equal(bytes[5], 8 + 16 + 12 + 16);
  assert.equal(bytes[6], 0);
  assert.deepEqual([...bytes.subarray(40, 48)], [60, 0, 1, 4, 0, 0, 0, 0]);
  const options = [51, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
  assert.deepEqual([...bytes.subarray(48, 64)], options);
  assert.deepEqual([...bytes.subarray(64, 76)], [253, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
});

test('fragments of IPv6 have what was behind the header, in two parts', () => {
  const whole = udp(`[${host}]:5000 > [${remote}]:53`, { payloadBytes: 40 });
  const parts = ipv6Fragments(whole, { firstBytes: 24, identification: 0x01020304 });
  const [first, later] = parts.map((part) => ipBytes(part)) as [Uint8Array, Uint8Array];
  assert.deepEqual([...first.subarray(40, 48)], [17, 0, 0, 1, 1, 2, 3, 4]);
  assert.deepEqual([...later.subarray(40, 48)], [17, 0, 0, 24, 1, 2, 3, 4]);
  const joined = Buffer.concat([first.subarray(48), later.subarray(48)]);
  assert.deepEqual(joined, Buffer.from(ipBytes(whole).subarray(40)));
  assert.deepEqual([first[5], later[5]], [8 + 24, 8 + 24]);
});

test('a packet of IPv6 is told with its addresses, its chain and its ports', () => {
  const extensions = [destinationOptions()];
  const frame = udp(`[${host}]:5000 > [${remote}]:53`, { extensions });
  const told = `${host} > ${remote} protocol 17 behind 60:1100010400000000 ports 5000 > 53`;
  assert.equal(describeFrame(frame), told);
  const echo = ping(`${host} > ${remote}`, { identifier: 7 });
  assert.equal(describeFrame(echo), `${host} > ${remote} protocol 58 type 128/0 id 7`);
});
