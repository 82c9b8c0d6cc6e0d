//! A `StatefulSet` of Kubernetes whose pod runs `start --foreground` on this host.

use serde_json::{Value, json};

use super::{Exported, STOP};

/// Resource of `KubeVirt`'s device plugin for /dev/kvm.
const KVM: &str = "devices.kubevirt.io/kvm";
/// Longest name of a label's value.
const LONGEST: usize = 63;

/// Returns a name as RFC 1123 has them.
fn label(name: &str) -> String {
    let plain: String =
        name.to_ascii_lowercase().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    plain
        .trim_matches('-')
        .chars()
        .take(LONGEST - "agent-vm-".len() - "-0".len())
        .collect::<String>()
        .trim_end_matches('-')
        .to_owned()
}

/// Returns the object. Directories of this host are mounted at their own paths, so that the machine's settings stay valid.
pub fn stateful_set(exported: &Exported, image: &str) -> Value {
    let Exported { name, args, state, cache, source, toolkit, home, node, user, group, settings, .. } = exported;
    let name = format!("agent-vm-{}", label(name));
    let labels = json!({ "app.kubernetes.io/name": "agent-vm", "app.kubernetes.io/instance": name });
    let paths = [("state", state, false), ("cache", cache, false), ("source", source, true)];
    let toolkit = toolkit.as_ref().map(|path| ("toolkit", path, true));
    let paths: Vec<_> = paths.into_iter().chain(toolkit).collect();
    let mounts: Vec<_> = paths
        .iter()
        .map(|(name, path, read_only)| json!({ "name": name, "mountPath": path, "readOnly": read_only }))
        .collect();
    let volumes: Vec<_> = paths
        .iter()
        .map(|(name, path, _)| json!({ "name": name, "hostPath": { "path": path, "type": "Directory" } }))
        .collect();
    let mut environment = vec![json!({ "name": "HOME", "value": home })];
    environment.extend(
        paths
            .iter()
            .filter(|(name, ..)| *name == "toolkit")
            .map(|(_, path, _)| json!({ "name": "AGENT_VM_TOOLKIT", "value": path })),
    );
    // $( starts a variable.
    let command: Vec<_> = std::iter::once("agent-vm")
        .chain(args.iter().map(String::as_str))
        .map(|word| word.replace("$(", "$$("))
        .collect();
    let limits =
        json!({ "memory": format!("{}Mi", exported.memory()), "cpu": (settings.cores + 1).to_string(), KVM: "1" });
    let container = json!({
        "name": "machine",
        "image": image,
        "command": command,
        "env": environment,
        "resources": { "limits": limits },
        "volumeMounts": mounts,
        "securityContext": {
            "runAsUser": user, "runAsGroup": group, "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] },
            // The sandboxes of QEMU and virtiofsd are user namespaces with a new /proc.
            "procMount": "Unmasked", "seccompProfile": { "type": "Unconfined" },
        },
    });
    json!({
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": { "name": name, "labels": labels },
        "spec": {
            "serviceName": name,
            "replicas": 1,
            "selector": { "matchLabels": labels },
            "template": {
                "metadata": { "labels": labels },
                "spec": {
                    "nodeSelector": { "kubernetes.io/hostname": node },
                    "hostUsers": false,
                    "automountServiceAccountToken": false,
                    "enableServiceLinks": false,
                    "terminationGracePeriodSeconds": STOP,
                    "containers": [container],
                    "volumes": volumes,
                },
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::commands::export::sample;

    #[test]
    fn names_are_valid_and_variables_are_not_expanded() {
        assert_eq!(label("App_main.x-"), "app-main-x");
        assert!(label(&"a".repeat(200)).len() + "agent-vm--0".len() <= LONGEST);
        let mut exported = sample();
        exported.args[1] = "/home/me/$(x)".to_owned();
        let set = stateful_set(&exported, "registry.example/agent-vm:1");
        let pod = &set["spec"]["template"]["spec"];
        assert_eq!(pod["containers"][0]["command"][2], "/home/me/$$(x)");
        assert_eq!(pod["nodeSelector"]["kubernetes.io/hostname"], "box");
        assert_eq!(
            pod["volumes"].as_array().unwrap().len(),
            pod["containers"][0]["volumeMounts"].as_array().unwrap().len()
        );
    }
}
