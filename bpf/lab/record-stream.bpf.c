/* Fills a ring buffer and large maps, to test and to measure how user space reads them. */
#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "abi/lab.h"

/* Owner: bench/ and test/. A record that finds no room is counted in the request. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 16 * 1024 * 1024);
} stream_records SEC(".maps");

/* Owner: bench/ and test/, which give it its size. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __u64);
	__type(value, struct frame_counter);
} stream_table SEC(".maps");

/* Owner: test/. User space reads it as memory while the kernel writes. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1024);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, __u64);
} stream_slots SEC(".maps");

static long emit_record(__u32 index, struct stream_request *request)
{
	__u64 sequence = request->first_sequence + index;
	__u32 slot = sequence % 1024;
	struct stream_record *record;
	__u64 *last;

	record = bpf_ringbuf_reserve(&stream_records, sizeof(*record), 0);
	if (!record) {
		request->lost_count += 1;
		return 0;
	}
	record->sequence = sequence;
	record->time_ns = bpf_ktime_get_ns();
	record->source_address = bpf_htonl(0x0a4d0000 + (__u32)(sequence % 65536));
	record->destination_address = bpf_htonl(0xc0000201);
	record->source_port = bpf_htons(1024 + sequence % 60000);
	record->destination_port = bpf_htons(443);
	record->length_bytes = 60 + sequence % 1455;
	if (request->discard_every && sequence % request->discard_every == 0)
		bpf_ringbuf_discard(record, 0);
	else
		bpf_ringbuf_submit(record, 0);

	last = bpf_map_lookup_elem(&stream_slots, &slot);
	if (last)
		*last = sequence;
	return 0;
}

SEC("syscall")
int emit_records(struct stream_request *context)
{
	struct stream_request request = *context;

	bpf_loop(request.record_count, emit_record, &request, 0);
	context->lost_count = request.lost_count;
	return 0;
}

static long fill_entry(__u32 index, struct stream_request *request)
{
	__u64 key = request->first_sequence + index;
	struct frame_counter value = { .frames = key, .bytes = key * 3 };

	if (bpf_map_update_elem(&stream_table, &key, &value, BPF_ANY) != 0)
		request->lost_count += 1;
	return 0;
}

SEC("syscall")
int fill_table(struct stream_request *context)
{
	struct stream_request request = *context;

	bpf_loop(request.record_count, fill_entry, &request, 0);
	context->lost_count = request.lost_count;
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
