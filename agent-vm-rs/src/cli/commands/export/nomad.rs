//! A job of Nomad, in the JSON of its API, that runs `start --foreground` on this host.

use serde_json::{Value, json};

use super::{Exported, START, STOP};

/// Nanoseconds, in which Nomad's API counts.
const SECOND: u64 = 1_000_000_000;
/// MHz to reserve for a core.
const MHZ: u32 = 1000;

/// Returns the job. The machine's directory is on this host, so that no other one can run it.
pub fn job(exported: &Exported) -> Value {
    let Exported { name, program, args, toolkit, home, node, user, settings, .. } = exported;
    let mut environment = json!({ "HOME": home });
    if let Some(toolkit) = toolkit {
        environment["AGENT_VM_TOOLKIT"] = json!(toolkit);
    }
    // ${ starts a variable of Nomad.
    let literal = |text: &String| text.replace("${", "$${");
    let args: Vec<_> = args.iter().map(literal).collect();
    let task = json!({
        "Name": "machine",
        "Driver": "raw_exec",
        "User": user.to_string(),
        "Config": { "command": literal(program), "args": args },
        "Env": environment,
        "KillSignal": "SIGTERM",
        "KillTimeout": u64::from(STOP) * SECOND,
        "Resources": { "CPU": settings.cores * MHZ, "MemoryMB": exported.memory() },
    });
    json!({ "Job": {
        "ID": format!("agent-vm-{name}"),
        "Name": format!("agent-vm-{name}"),
        "Type": "service",
        "Datacenters": ["*"],
        "Constraints": [{ "LTarget": "${node.unique.name}", "RTarget": node, "Operand": "=" }],
        "TaskGroups": [{
            "Name": "machine",
            "Count": 1,
            "RestartPolicy": { "Attempts": 5, "Interval": 6 * u64::from(START) * SECOND, "Delay": 30 * SECOND, "Mode": "fail" },
            "ReschedulePolicy": { "Attempts": 0, "Unlimited": false },
            "Tasks": [task],
        }],
    } })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::commands::export::sample;

    #[test]
    fn a_job_runs_on_this_host_only() {
        let mut exported = sample();
        exported.args[1] = "/home/me/${x}".to_owned();
        let job = job(&exported);
        let job = &job["Job"];
        assert_eq!(job["Constraints"][0]["RTarget"], "box");
        let task = &job["TaskGroups"][0]["Tasks"][0];
        assert_eq!(task["Config"]["args"][1], "/home/me/$${x}");
        assert_eq!(task["KillTimeout"], 60_000_000_000_u64);
    }
}
