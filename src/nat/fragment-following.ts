/** Later fragments carry no ports: what was done with the first of a datagram is done with them. */
import type { FragmentAction, FragmentKey } from './fragment-table.ts';
import { packetMarks } from './nat-hook.ts';
import {
  type Decision,
  drop,
  type FragmentEvent,
  type Passage,
  passAsRequest,
  translated,
} from './passage.ts';
import { rewriteDestination, rewriteSource } from './rewriting.ts';

/** Bytes of the source MAC address that tell where a held fragment came in. */
const HELD_MAC_PREFIX = 0x0267;

/** At a hook where destinations are translated. */
export function followInward(passage: Passage): Decision {
  const { state, packet, tick } = passage;
  const found = state.fragments.find(keyOf(passage), tick);
  if (found === undefined) return hold(passage);
  switch (found.action) {
    case 'awaited':
      return hold(passage);
    case 'drop':
      return drop('droppedFragment');
    case 'destination':
      rewriteDestination(packet, { address: found.address });
      return { action: 'follow', mark: found.mark, isTranslated: true };
    default:
      return { action: 'follow', mark: found.mark, isTranslated: false };
  }
}

/** At a hook where sources are translated. The kernel sends a first fragment first. */
export function followOutward(passage: Passage): Decision {
  const { state, packet, tick } = passage;
  const found = state.fragments.find(keyOf(passage), tick);
  if (found?.action !== 'source') return drop('droppedFragment');
  rewriteSource(packet, { address: found.address });
  return translated();
}

/**
 * What became of a first fragment.
 *
 * @returns an event when others wait for it
 */
export function rememberFragment(
  passage: Passage,
  fragment: FragmentAction,
): FragmentEvent | undefined {
  const { state, tick, interfaceIndex } = passage;
  const key = keyOf(passage);
  const isAwaited = state.fragments.find(key, tick)?.action === 'awaited';
  put(passage, fragment);
  return isAwaited ? { key, interfaceIndex } : undefined;
}

function hold(passage: Passage): Decision {
  const { state, packet, tick, interfaceIndex } = passage;
  if (state.settings.holdInterface === 0) return passAsRequest;
  const isKnown = state.fragments.find(keyOf(passage), tick) !== undefined;
  if (!isKnown) put(passage, { action: 'awaited', mark: passage.mark & packetMarks.ours });
  packet.view.setUint16(6, HELD_MAC_PREFIX);
  packet.view.setUint32(8, interfaceIndex);
  state.counters.add('fragmentHeld');
  return { action: 'hold' };
}

function put(passage: Passage, fragment: FragmentAction): void {
  const { state, tick } = passage;
  const untilTick = tick + state.settings.times.fragment + 1;
  state.fragments.put(keyOf(passage), { fragment, untilTick });
}

/** As the packet came: its addresses are changed by now. */
function keyOf({ packet, hook }: Passage): FragmentKey {
  const { source, destination, identification, protocol } = packet;
  return { source, destination, identification, protocol, hook };
}
