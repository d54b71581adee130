import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  type ControlQuestion,
  type SessionSummary,
  STATES_PER_ANSWER_MAX,
} from '../messages/control-messages.ts';
import { exitCodes } from './exit-codes.ts';
import { type ControlReply, documentOf, SimulatedWorld, typed } from './simulated-world.ts';

const outside = '198.51.100.1';
const web: SessionSummary = {
  protocol: 6,
  direction: 'outbound',
  state: 'established',
  initiator: { address: '10.77.0.9', port: 40_000, external: { address: outside, port: 40_002 } },
  responder: { address: '203.0.113.5', port: 443 },
  ageSeconds: 61,
  expiresInSeconds: 7_200,
  initiatorBytes: 1_200,
  responderBytes: 3_400_000,
};
const forwarded: SessionSummary = {
  ...web,
  direction: 'inbound',
  state: 'closing',
  initiator: { address: '203.0.113.77', port: 50_000 },
  responder: { address: '10.77.0.20', port: 8_080, external: { address: outside, port: 80 } },
  initiatorBytes: 40,
  responderBytes: 0,
};
const gre: SessionSummary = {
  ...web,
  protocol: 47,
  state: 'answered',
  initiator: { address: '10.77.0.10', port: 0, external: { address: outside, port: 0 } },
  responder: { address: '192.0.2.7', port: 0 },
};
const routed: SessionSummary = {
  ...web,
  protocol: 253,
  direction: 'routed',
  state: 'unanswered',
  initiator: { address: '10.88.0.3', port: 0 },
  responder: { address: '192.0.2.7', port: 0 },
};

/** Answers with these, at most so many at once. */
function worldOf(
  sessions: readonly SessionSummary[],
  perAnswer = Number.MAX_SAFE_INTEGER,
): SimulatedWorld {
  const world = new SimulatedWorld();
  world.core = (question: ControlQuestion): ControlReply => {
    if (question.kind === 'kill-states') return { kind: 'states-killed', killedCount: 3 };
    if (question.kind !== 'get-states') throw new Error(`asked ${question.kind}`);
    const from = Number(question.cursor ?? 0);
    const end = Math.min(from + Math.min(question.limit, perAnswer), sessions.length);
    const states = sessions.slice(from, end);
    const rest = end < sessions.length ? { nextCursor: `${end}` } : {};
    return { kind: 'states', states, examinedCount: states.length, ...rest };
  };
  return world;
}

test('the sessions of a device stand together, inside addresses with the port outside', async () => {
  const world = worldOf([routed, forwarded, gre, web]);
  assert.equal(await typed(world, 'states'), exitCodes.done);
  assert.equal(
    world.stdout,
    `proto  from                to               via    state        bytes
tcp    10.77.0.9:40000     203.0.113.5:443  40002  established  3.4M
gre    10.77.0.10          192.0.2.7               answered     3.4M
253    10.88.0.3           192.0.2.7               unanswered   3.4M
tcp    203.0.113.77:50000  10.77.0.20:8080  80     closing      40
`,
  );
  assert.equal(world.stderr, '');
  assert.deepEqual(world.questions, [{ kind: 'get-states', filter: {}, limit: 100 }]);
});

test('where there are several outside addresses, the port stands behind its address', async () => {
  const other = { address: '198.51.100.2', port: 40_000 };
  const second = { ...web, initiator: { ...web.initiator, port: 40_001, external: other } };
  const world = worldOf([web, second]);
  await typed(world, 'states');
  assert.match(world.stdout, / 198\.51\.100\.1:40002 .*\n.* 198\.51\.100\.2:40000 /);
});

test('lines of the longest addresses fit a terminal of 80 columns', async () => {
  const end = { address: '255.255.255.255', port: 65_535 };
  const longest: SessionSummary = {
    ...web,
    protocol: 132,
    state: 'unconfirmed',
    initiator: { ...end, external: end },
    responder: end,
    initiatorBytes: 999_400,
    responderBytes: 0,
  };
  const world = worldOf([longest]);
  await typed(world, 'states');
  for (const line of world.stdout.split('\n')) assert.ok(line.length <= 80, line);
  assert.match(world.stdout, /999K/);
});

test('IPv6 stands behind IPv4, its addresses in brackets before ports; unknown ones are last', async () => {
  const ends = { initiator: { address: '2001:db8:77::9', port: 40_000 } };
  const responder = { address: '2001:db8:113::5', port: 443 };
  const ipv6: SessionSummary = { ...web, ...ends, responder, direction: 'routed' };
  const esp = { ...ipv6, protocol: 50, initiator: { ...ends.initiator, port: 0 } };
  const unknown = { ...ipv6, initiator: { address: '?0a1b2c3d', port: 1 } };
  const world = worldOf([unknown, ipv6, web, { ...esp, responder: { ...responder, port: 0 } }]);
  await typed(world, 'states');
  const lines = world.stdout
    .split('\n')
    .slice(1, 5)
    .map((line) => line.split(/ +/).slice(0, 3));
  assert.deepEqual(lines, [
    ['tcp', '10.77.0.9:40000', '203.0.113.5:443'],
    ['esp', '2001:db8:77::9', '2001:db8:113::5'],
    ['tcp', '[2001:db8:77::9]:40000', '[2001:db8:113::5]:443'],
    ['tcp', '?0a1b2c3d:1', '[2001:db8:113::5]:443'],
  ]);
});

test('without any session it says so', async () => {
  const world = worldOf([]);
  assert.equal(await typed(world, 'states', '--device', '10.77.0.9'), exitCodes.done);
  assert.equal(world.stdout, 'no session\n');
  await typed(world, 'states', '--json');
});

const many = Array.from({ length: 2_500 }, (_, index): SessionSummary => {
  return { ...web, initiator: { ...web.initiator, port: 2_500 - index } };
});

test('a long list is asked for piece by piece over one connection, and sorted as a whole', async () => {
  const world = worldOf(many, 900);
  assert.equal(await typed(world, 'states', '--limit', '2500'), exitCodes.done);
  const ports = world.stdout.match(/(?<=:)\d+(?= +203)/g)?.map(Number);
  assert.deepEqual(
    ports,
    many.map((_, index) => index + 1),
  );
  const asked = world.questions.map((question) =>
    question.kind === 'get-states' ? [question.cursor, question.limit] : assert.fail(),
  );
  assert.deepEqual(asked, [
    [undefined, STATES_PER_ANSWER_MAX],
    ['900', STATES_PER_ANSWER_MAX],
    ['1800', 700],
  ]);
  assert.equal(world.connectedTo.length, 1);
  assert.equal(world.openConnections, 0);
});

test('a list that ends at its limit says that there may be more', async () => {
  const world = worldOf(many);
  assert.equal(await typed(world, 'states', '--limit', '20'), exitCodes.done);
  assert.equal(world.stdout.split('\n').length, 22);
  assert.equal(world.stderr, 'gatehouse: there may be more than 20: --limit lists more\n');
});

test('the JSON has every field, the name of the protocol, and whether it is all', async () => {
  const world = worldOf([web]);
  await typed(world, 'states', '--json');
  const states = [{ ...web, protocolName: 'tcp' }];
  assert.deepEqual(documentOf(world), { states, isWhole: true, examinedCount: 1 });
  const part = worldOf(many);
  await typed(part, 'states', '--json', '--limit', '1');
  assert.equal(documentOf(part)['isWhole'], false);
});

test('options pick sessions, for a list and for an end alike', async () => {
  const words = [
    ...['--device', '10.77.0.0/24', '--remote', '203.0.113.5', '--port', '443'],
    ...['--protocol', 'tcp', '--state', 'established'],
  ];
  const filter = {
    ...{ device: '10.77.0.0/24', remote: '203.0.113.5', port: 443 },
    ...{ protocol: 6, state: 'established' },
  } as const;
  const world = worldOf([]);
  await typed(world, 'states', ...words);
  await typed(world, 'states', '--kill', ...words);
  assert.deepEqual(world.questions, [
    { kind: 'get-states', filter, limit: 100 },
    { kind: 'kill-states', filter, author: 'anna' },
  ]);
});

test('after an end their number is told', async () => {
  const world = worldOf([]);
  assert.equal(await typed(world, 'states', '--kill', '--all'), exitCodes.done);
  assert.equal(world.stdout, '3 sessions were ended\n');
  assert.deepEqual(world.questions, [{ kind: 'kill-states', filter: 'all', author: 'anna' }]);
  const asJson = worldOf([]);
  await typed(asJson, 'states', '--kill', '--port', '25', '--json');
  assert.deepEqual(documentOf(asJson), { killedCount: 3 });
});

test('a refusal and a stopped instance end as they do for every verb', async () => {
  const world = new SimulatedWorld();
  world.core = () => ({ kind: 'refused', code: 'failed', reason: 'the NAT is not loaded' });
  assert.equal(await typed(world, 'states'), exitCodes.refused);
  assert.equal(world.stderr, 'gatehouse: the NAT is not loaded\n');
  assert.equal(world.openConnections, 0);
  assert.equal(await typed(new SimulatedWorld(), 'states'), exitCodes.notRunning);
  assert.equal(
    await typed(new SimulatedWorld(), 'states', '--kill', '--all'),
    exitCodes.notRunning,
  );
});
