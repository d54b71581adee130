/** Cases of fragments (RFC 4787 REQ-14). */
import { dropped, held, into, type NatCase, out, told, wait } from './nat-case.ts';
import { type Frame, fragments, type Route, udp, withBytes } from './nat-packets.ts';
import { natTestSettings } from './nat-test-settings.ts';
import { TESTED_INTERFACE_INDEX } from './tested-nat.ts';

const opened = ['mappingsOpened', 'sessionsOpened'] as const;
const { times } = natTestSettings;
const inside = '10.77.0.2:5000';
const outside = '203.0.113.1:5000';
const remote = '198.51.100.1:53';

function halves(route: Route): readonly [Frame, Frame] {
  return fragments(udp(route, { identification: 4711, payloadBytes: 64 }), 24);
}

/** The checksum of a first fragment covers more than it holds, so its bytes come from the whole. */
const [outFirst, outLater] = halves(`${inside} > ${remote}`);
const [outFirstSeen, outLaterSeen] = halves(`${outside} > ${remote}`);
const [inFirst, inLater] = halves(`${remote} > ${outside}`);
const [inFirstSeen, inLaterSeen] = halves(`${remote} > ${inside}`);
const start = out(udp(`${inside} > ${remote}`), udp(`${outside} > ${remote}`), ...opened);

function heldFrame(frame: Frame): Frame {
  return withBytes(frame, 6, [0x02, 0x67, 0, 0, 0, TESTED_INTERFACE_INDEX]);
}

export const natFragmentCases: readonly NatCase[] = [
  {
    name: 'rfc4787-req14 survive-65 fragments that leave in order get one source',
    steps: [out(outFirst, outFirstSeen, ...opened), out(outLater, outLaterSeen)],
  },
  {
    name: 'rfc4787-req14 survive-65 fragments that come in order reach one host',
    steps: [start, into(inFirst, inFirstSeen, 'reply'), into(inLater, inLaterSeen, 'reply')],
  },
  {
    name: 'rfc4787-req14 survive-65 a fragment before its first is held until that has come',
    settings: { holdInterface: 1 },
    steps: [
      start,
      held('wan-ingress', inLater, heldFrame(inLater)),
      held('wan-ingress', inLater, heldFrame(inLater)),
      into(inFirst, inFirstSeen, 'reply'),
      into(inLater, inLaterSeen, 'reply'),
    ],
  },
  {
    name: 'survive-65 a fragment whose first never came goes on to the gateway, or does not leave',
    steps: [
      start,
      told('wan-ingress', inLater, 'request'),
      dropped('wan-egress', outLater, 'droppedFragment'),
    ],
  },
  {
    name: 'survive-65 what is known of a first fragment is forgotten after its time',
    settings: { holdInterface: 1 },
    steps: [
      start,
      into(inFirst, inFirstSeen, 'reply'),
      wait(times.fragment),
      into(inLater, inLaterSeen, 'reply'),
      wait(1),
      held('wan-ingress', inLater, heldFrame(inLater)),
    ],
  },
  {
    name: 'survive-65 fragments behind one that was dropped are dropped, behind a local one local',
    steps: [
      dropped('wan-ingress', halves(`127.0.0.1:9 > ${outside}`)[0], 'droppedMartian'),
      dropped('wan-ingress', halves(`127.0.0.1:9 > ${outside}`)[1], 'droppedFragment'),
      told('wan-ingress', inFirst, 'request'),
      told('wan-ingress', inLater, 'request'),
    ],
  },
  {
    name: 'survive-65 a first fragment without a whole transport header is dropped',
    steps: [
      dropped(
        'wan-ingress',
        withBytes(udp(`${remote} > ${outside}`), 16, [0, 24, 0, 1, 0x20, 0]),
        'droppedMalformed',
      ),
    ],
  },
];
