/** The counting programs through the kernel's test run: one case table for XDP and tc. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ProtocolCounter, ProtocolCounterKey } from '../../src/abi/layouts.generated.ts';
import { protocolCountersObject } from '../../src/abi/protocol-counters.generated.ts';
import { type BpfObject, loadBpfObject } from '../../src/linux/bpf-object.ts';
import type { BpfProgram } from '../../src/linux/bpf-program.ts';
import {
  ethernetFrame,
  icmpEchoFrame,
  ipv4Frame,
  tcpFrame,
  udpFrame,
} from '../../src/testing/packet-builder.ts';

const addresses = { source: '192.0.2.1', destination: '198.51.100.1' };
const ports = { sourcePort: 1000, destinationPort: 2000 };

function ipv6Packet(nextHeader: number): Uint8Array {
  const packet = new Uint8Array(40);
  packet[0] = 0x60;
  packet[6] = nextHeader;
  return packet;
}

/** Tags, outermost first, around an IPv4 UDP packet. */
function taggedFrame(...etherTypes: number[]): Uint8Array<ArrayBuffer> {
  const inner = udpFrame({ ...addresses, ...ports }).subarray(14);
  const [outermost = 0, ...rest] = [...etherTypes, 0x0800];
  const tags = rest.flatMap((etherType) => [0, 7, etherType >> 8, etherType & 0xff]);
  const payload = Uint8Array.from([...tags, ...inner]);
  return ethernetFrame({ etherType: outermost, payload });
}

type Expected = Pick<ProtocolCounterKey, 'etherType' | 'ipProtocol'>;

const cases: readonly [string, Uint8Array<ArrayBuffer>, Expected][] = [
  ['UDP', udpFrame({ ...addresses, ...ports }), { etherType: 0x0800, ipProtocol: 17 }],
  ['TCP', tcpFrame({ ...addresses, ...ports, flags: 2 }), { etherType: 0x0800, ipProtocol: 6 }],
  [
    'ICMP',
    icmpEchoFrame({ ...addresses, identifier: 1, sequence: 1 }),
    { etherType: 0x0800, ipProtocol: 1 },
  ],
  [
    'a protocol number without a name',
    ipv4Frame(addresses, 253, new Uint8Array(0)),
    { etherType: 0x0800, ipProtocol: 253 },
  ],
  [
    'IPv6',
    ethernetFrame({ etherType: 0x86dd, payload: ipv6Packet(58) }),
    { etherType: 0x86dd, ipProtocol: 58 },
  ],
  [
    'ARP',
    ethernetFrame({ etherType: 0x0806, payload: new Uint8Array(28) }),
    { etherType: 0x0806, ipProtocol: 0 },
  ],
  [
    'an EtherType that is not IP',
    ethernetFrame({ etherType: 0x88cc, payload: new Uint8Array(46) }),
    { etherType: 0, ipProtocol: 0 },
  ],
  [
    'an IPv4 EtherType around another version',
    ethernetFrame({ etherType: 0x0800, payload: new Uint8Array(46).fill(0x65) }),
    { etherType: 0, ipProtocol: 0 },
  ],
  ['one VLAN tag', taggedFrame(0x8100), { etherType: 0x0800, ipProtocol: 17 }],
  ['two VLAN tags', taggedFrame(0x88a8, 0x8100), { etherType: 0x0800, ipProtocol: 17 }],
  ['three VLAN tags', taggedFrame(0x88a8, 0x8100, 0x8100), { etherType: 0, ipProtocol: 0 }],
];

const XDP_PASS = 2;
/** TC_ACT_UNSPEC: the next filter decides. */
const TC_ACT_UNSPEC = 0xffff_ffff;

type Programs = keyof typeof protocolCountersObject.programs;

const hooks: readonly { program: Programs; verdict: number; direction: number }[] = [
  { program: 'countProtocolsXdp', verdict: XDP_PASS, direction: 0 },
  { program: 'countProtocolsTcIngress', verdict: TC_ACT_UNSPEC, direction: 0 },
  { program: 'countProtocolsTcEgress', verdict: TC_ACT_UNSPEC, direction: 1 },
];

function runOnce(program: BpfProgram, data: Uint8Array<ArrayBuffer>): number {
  const result = program.testRun({ data });
  assert.deepEqual(result.data, data, 'a counting program leaves the packet as it is');
  return result.returnValue;
}

for (const { program, verdict, direction } of hooks) {
  for (const [name, frame, expected] of cases) {
    test(`${program} counts ${name} once, with all its bytes`, () => {
      using object = loadBpfObject(protocolCountersObject, {
        maxEntries: { protocolCounters: 16 },
      });
      assert.equal(runOnce(object.programs[program], frame), verdict);
      const counted = [...object.maps.protocolCounters.entries()].map(([key, perCpu]) => ({
        etherType: key.etherType,
        ipProtocol: key.ipProtocol,
        direction: key.direction,
        ...total(perCpu),
      }));
      assert.deepEqual(counted, [
        { ...expected, direction, packets: 1n, bytes: BigInt(frame.length) },
      ]);
      assert.equal(uncounted(object), 0n);
    });
  }
}

test('when the table is full, further protocols pass uncounted and are told', () => {
  using object = loadBpfObject(protocolCountersObject, { maxEntries: { protocolCounters: 4 } });
  for (let protocol = 0; protocol < 10; protocol++) {
    const frame = ipv4Frame(addresses, protocol, new Uint8Array(0));
    for (let round = 0; round < 3; round++) {
      assert.equal(runOnce(object.programs.countProtocolsXdp, frame), XDP_PASS);
    }
  }
  const counters = [...object.maps.protocolCounters.entries()].map(([, perCpu]) => total(perCpu));
  const counted = counters.reduce((sum, counter) => sum + counter.packets, 0n);
  assert.equal(counters.length, 4);
  assert.equal(counted, 12n);
  assert.equal(counted + uncounted(object), 30n);
});

function total(perCpu: readonly ProtocolCounter[]): ProtocolCounter {
  return {
    packets: perCpu.reduce((sum, counter) => sum + counter.packets, 0n),
    bytes: perCpu.reduce((sum, counter) => sum + counter.bytes, 0n),
  };
}

function uncounted(object: BpfObject<typeof protocolCountersObject>): bigint {
  return (object.maps.uncountedPackets.lookup(0) ?? []).reduce((sum, count) => sum + count, 0n);
}
