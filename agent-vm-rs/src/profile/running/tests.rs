use std::time::Instant;

use super::look::Thread;
use super::*;
use crate::host::process::Usage;
use crate::vm::qmp::Figures;

fn usage(cpu: u64, io: Option<(u64, u64)>) -> Usage {
    Usage { cpu: Duration::from_millis(cpu), memory: 1 << 30, io }
}

fn thread(name: &str, inner: i32, cpu: u64) -> Thread {
    Thread { name: name.to_owned(), inner, cpu: Duration::from_millis(cpu) }
}

fn look(time: Instant, busy: u64) -> Look {
    let qemu = Process {
        name: "QEMU",
        pid: 100,
        usage: usage(10_000 + busy, Some((1_000 + busy, 500))),
        threads: BTreeMap::from([
            (100, thread("qemu-system-x86", 2, 500)),
            (103, thread("CPU 0/KVM", 5, 8_000 + busy)),
            (104, thread("CPU 1/KVM", 6, 1_500 + busy / 4)),
        ]),
    };
    let virtiofsd = Process {
        name: "virtiofsd",
        pid: 90,
        usage: usage(100, None),
        threads: BTreeMap::from([(90, thread("virtiofsd", 1, 100))]),
    };
    let counts = DiskCounts {
        rd_bytes: 4_096 * busy,
        rd_operations: busy,
        rd_total_time_ns: 250_000 * busy,
        wr_bytes: 7,
        ..DiskCounts::default()
    };
    let disk = Disk { name: "virtio0".to_owned(), counts };
    let figures = Figures { disks: vec![disk], processors: vec![5, 6] };
    Look { time, processes: vec![qemu, virtiofsd], figures: Some(figures) }
}

fn report() -> Report {
    let now = Instant::now();
    between("app-main", &look(now, 0), &look(now + Duration::from_secs(10), 4_000))
}

#[test]
fn two_looks_give_shares_and_sums() {
    let report = report();
    assert!((report.seconds - 10.0).abs() < 0.01);
    let [qemu, virtiofsd] = report.processes.as_slice() else { panic!("{:?}", report.processes) };
    assert!((qemu.cpu_percent - 40.0).abs() < 0.1 && virtiofsd.cpu_percent == 0.0);
    assert_eq!((qemu.read_bytes, qemu.written_bytes, virtiofsd.read_bytes), (Some(4_000), Some(0), None));
    let threads: Vec<_> = report.threads.iter().map(|thread| (thread.name.as_str(), thread.cpu_percent)).collect();
    assert_eq!(threads, [("vCPU 0", 40.0), ("vCPU 1", 10.0)]);
    let disk = &report.disks.as_ref().unwrap()[0];
    assert_eq!((disk.reads, disk.read_bytes, disk.read_us, disk.write_us), (4_000, 16_384_000, Some(250), None));
}

#[test]
fn counts_that_run_back_are_zero() {
    let now = Instant::now();
    let report = between("app-main", &look(now, 4_000), &look(now, 0));
    assert!(report.processes.iter().all(|process| process.cpu_percent == 0.0) && report.threads.is_empty());
    assert_eq!(report.disks.unwrap()[0].read_bytes, 0);
}

#[test]
fn the_tables_fit_the_terminal() {
    insta::assert_snapshot!(report().to_text(Some(80)));
    for width in [80, 200] {
        assert!(report().to_text(Some(width)).lines().all(|line| line.len() <= width));
    }
    let silent = Report { disks: None, threads: Vec::new(), ..report() };
    assert!(silent.to_text(None).contains("QEMU did not report its disks"));
}
