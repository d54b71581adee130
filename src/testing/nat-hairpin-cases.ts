/** Cases of hosts behind the NAT that meet each other by external endpoints (RFC 4787 REQ-9). */
import {
  type Counted,
  dropped,
  fromGateway,
  hairpinIn,
  hairpinOut,
  type NatCase,
  type NatStep,
  out,
} from './nat-case.ts';
import { type Frame, icmpError, tcp, udp } from './nat-packets.ts';

const opened = ['mappingsOpened', 'sessionsOpened'] as const;
const host = '10.77.0.2';
const neighbour = '10.77.0.3';
const remote = '198.51.100.1';
const shared = '203.0.113.1';

const hairpin: readonly NatCase[] = [
  {
    name: 'rfc4787-req9 survive-62 two hosts behind the NAT see each other at external endpoints',
    steps: [
      out(udp(`${host}:5000 > ${remote}:53`), udp(`${shared}:5000 > ${remote}:53`), ...opened),
      hairpinIn(
        udp(`${neighbour}:6000 > ${shared}:5000`),
        udp(`${neighbour}:6000 > ${host}:5000`),
        'mapped',
        'sessionsOpened',
      ),
      hairpinOut(
        udp(`${neighbour}:6000 > ${host}:5000`),
        udp(`${shared}:6000 > ${host}:5000`),
        'mapped',
        'mappingsOpened',
      ),
      hairpinIn(
        udp(`${host}:5000 > ${shared}:6000`),
        udp(`${host}:5000 > ${neighbour}:6000`),
        'reply',
      ),
      hairpinOut(
        udp(`${host}:5000 > ${neighbour}:6000`),
        udp(`${shared}:5000 > ${neighbour}:6000`),
        'reply',
      ),
    ],
  },
  {
    name: 'rfc4787-req9 survive-62 a host reaches itself by its external endpoint',
    steps: [
      out(udp(`${host}:5000 > ${remote}:53`), udp(`${shared}:5000 > ${remote}:53`), ...opened),
      hairpinIn(
        udp(`${host}:5000 > ${shared}:5000`),
        udp(`${host}:5000 > ${host}:5000`),
        'mapped',
        'sessionsOpened',
      ),
      hairpinOut(
        udp(`${host}:5000 > ${host}:5000`),
        udp(`${shared}:5000 > ${host}:5000`),
        'mapped',
      ),
    ],
  },
  {
    name: 'rfc4787-req9 a routed host reaches a mapped endpoint, and is seen at an external one',
    steps: [
      out(udp(`${host}:5000 > ${remote}:53`), udp(`${shared}:5000 > ${remote}:53`), ...opened),
      hairpinIn(
        udp(`192.0.2.2:6000 > ${shared}:5000`),
        udp(`192.0.2.2:6000 > ${host}:5000`),
        'mapped',
        'sessionsOpened',
      ),
      hairpinOut(
        udp(`192.0.2.2:6000 > ${host}:5000`),
        udp(`${shared}:6000 > ${host}:5000`),
        'mapped',
        'mappingsOpened',
      ),
    ],
  },
];

/** What the gateway itself tells an inside host. */
function ownToInside(sent: Frame, seen: Frame, ...counted: Counted): NatStep {
  const step = fromGateway(sent, seen, ...counted);
  if (!('packet' in step)) return step;
  return { ...step, packet: { ...step.packet, hook: 'inside-egress' } };
}

const refusals: readonly NatCase[] = [
  {
    name: 'rfc5508-req7 an error of the gateway about a hairpin names external endpoints',
    steps: [
      out(udp(`${host}:5000 > ${remote}:53`), udp(`${shared}:5000 > ${remote}:53`), ...opened),
      hairpinIn(
        udp(`${neighbour}:6000 > ${shared}:5000`),
        udp(`${neighbour}:6000 > ${host}:5000`),
        'mapped',
        'sessionsOpened',
      ),
      ownToInside(
        icmpError(`10.77.0.1 > ${neighbour}`, {
          ...{ type: 3, code: 13 },
          quoted: udp(`${neighbour}:6000 > ${host}:5000`),
        }),
        icmpError(`10.77.0.1 > ${neighbour}`, {
          ...{ type: 3, code: 13 },
          quoted: udp(`${neighbour}:6000 > ${shared}:5000`),
        }),
      ),
    ],
  },
  {
    name: 'survive-62 a reset that refuses a hairpin comes from the external endpoint',
    steps: [
      out(
        tcp(`${host}:5000 > ${remote}:80`, 'S'),
        tcp(`${shared}:5000 > ${remote}:80`, 'S'),
        ...opened,
      ),
      hairpinIn(
        tcp(`${neighbour}:6000 > ${shared}:5000`, 'S'),
        tcp(`${neighbour}:6000 > ${host}:5000`, 'S'),
        'mapped',
        'sessionsOpened',
      ),
      ownToInside(
        tcp(`${host}:5000 > ${neighbour}:6000`, 'RA', { acknowledgement: 1 }),
        tcp(`${shared}:5000 > ${neighbour}:6000`, 'RA', { acknowledgement: 1 }),
        'translated',
      ),
    ],
  },
  {
    name: 'survive-76 a source that no inside host can have reaches nobody by a hairpin',
    steps: [
      out(udp(`${host}:5000 > ${remote}:53`), udp(`${shared}:5000 > ${remote}:53`), ...opened),
      dropped('inside-ingress', udp(`198.18.0.9:1 > ${shared}:5000`), 'droppedMartian'),
    ],
  },
];

export const natHairpinCases: readonly NatCase[] = [...hairpin, ...refusals];
