//! A stream costs no allocation once it flows: counted, event by event.
//!
//! A target of its own, since the counter sees everything that the process allocates.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::alloc::System;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use router_dataplane::{
    Absence, Clock, NoLocalEndpoints, Plane, PlaneConfig, RouteTable, SlotRoute, Target, TargetLabel, Upstream, Voucher,
};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use supervisor_protocol::{Generation, ServiceName, VersionName};

#[global_allocator]
static COUNTED: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const WARM_UP: usize = 200;
const EVENTS: usize = 2_000;

/// A plane with one worker before one child.
fn plane(child: SocketAddr) -> (Plane, SocketAddr) {
    let (service, version) = (ServiceName::new("a").unwrap(), VersionName::new("v1").unwrap());
    let config = PlaneConfig { workers: 1, ..PlaneConfig::of_router(Clock::start()) };
    let label =
        TargetLabel::Generation { service: service.clone(), version: version.clone(), generation: Generation(1) };
    let target = Target::new(label, Voucher::Nobody, Upstream::Tcp(child), config.clock);
    let slot = SlotRoute::new(Absence::Hold { forecast: None });
    slot.publish(target);
    let table = RouteTable::new(
        vec![("/{version}".parse().unwrap(), service.clone())],
        BTreeMap::from([((service, version), slot)]),
    );
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let plane = Plane::start(config, vec![socket.into()], Arc::new(table), Arc::new(NoLocalEndpoints)).unwrap();
    (plane, address)
}

fn connected(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream
}

/// Reads up to the end of a head.
fn head(stream: &mut TcpStream) {
    let mut seen = Vec::new();
    while !seen.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        seen.push(byte[0]);
    }
}

#[test]
fn an_event_of_a_stream_costs_no_allocation() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (_plane, address) = plane(listener.local_addr().unwrap());
    let data = "data: 0123456789\n\n".repeat(5);
    let chunk = format!("{:x}\r\n{data}\r\n", data.len());
    // By length, and chunk by chunk as a child sends what it has not counted.
    for (kind, answer, sent) in [
        ("length", format!("Content-Length: {}", data.len() * (WARM_UP + EVENTS + 1)), data.clone()),
        ("chunks", "Content-Type: text/event-stream\r\nTransfer-Encoding: chunked".to_owned(), chunk.clone()),
    ] {
        let mut client = connected(address);
        client.write_all(b"GET /v1/x HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        let (mut child, _) = listener.accept().unwrap();
        child.set_nodelay(true).unwrap();
        head(&mut child);
        child.write_all(format!("HTTP/1.1 200 OK\r\n{answer}\r\n\r\n").as_bytes()).unwrap();
        head(&mut client);
        // What is read is what was sent, in the same framing.
        let mut came = vec![0; sent.len()];
        let mut event = || {
            child.write_all(sent.as_bytes()).unwrap();
            client.read_exact(&mut came).unwrap();
            assert!(came.eq_ignore_ascii_case(sent.as_bytes()));
        };
        (0..WARM_UP).for_each(|_| event());
        let counted = Region::new(COUNTED);
        (0..EVENTS).for_each(|_| event());
        let change = counted.change();
        assert_eq!((change.allocations, change.reallocations), (0, 0), "{kind}: {change:?}");
    }
}
