//! The examples for CI: what their steps have a shell do is done here, and the helper for tests in Rust gets its stack.

use crate::support::{Scenario, docker, project};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Command, Output};

#[path = "../../examples/ci/stack.rs"]
mod stack;

fn redis_only(stack: &str) -> String {
    project::redis_only(stack, "lockstep/redis:7.0")
}

/// A project whose tests say which copy they ran beside, and fail where there is none.
fn project() -> Scenario {
    let stack = Scenario::with("ci_examples", redis_only);
    stack.environment("ci", "");
    stack.write(
        "test.sh",
        "#!/bin/bash\nset -eu\n[[ $LOCKSTEP_CACHE_APP_URL == redis://app:* ]]\necho \"beside $LOCKSTEP_ENVIRONMENT\"\n",
    );
    fs::set_permissions(stack.path("test.sh"), fs::Permissions::from_mode(0o755)).expect("it may be run");
    fs::create_dir(stack.path("bin")).expect("a folder");
    symlink(env!("CARGO_BIN_EXE_lockstep"), stack.path("bin/lockstep")).expect("lockstep in PATH");
    stack
}

fn example(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/ci").join(name);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
    serde_yaml::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn shell(stack: &Scenario, script: &str, variables: &BTreeMap<String, String>) -> Output {
    let path = format!("{}:/usr/local/bin:/usr/bin:/bin", stack.path("bin").display());
    let mut command = Command::new("bash");
    command.args(["-e", "-o", "pipefail", "-c", script]).env_clear().env("PATH", path).envs(variables);
    command.current_dir(stack.path("")).output().expect("bash runs")
}

#[track_caller]
fn fine(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    said
}

/// The variables of a step, with what it is given in place of `${{ inputs.NAME }}`.
fn variables(step: &Value, inputs: &BTreeMap<&str, String>) -> BTreeMap<String, String> {
    let declared = step["env"].as_object().cloned().unwrap_or_default();
    let value = |text: &str| match text.strip_prefix("${{ inputs.").and_then(|rest| rest.strip_suffix(" }}")) {
        Some(name) => inputs[name].clone(),
        None => text.to_owned(),
    };
    declared.into_iter().map(|(name, text)| (name, value(text.as_str().unwrap_or_default()))).collect()
}

#[test]
fn the_action_runs_its_command_beside_a_copy_and_fails_with_it() {
    let stack = project();
    let action = example("github/action.yml");
    let steps = action["runs"]["steps"].as_array().expect("steps");
    let inputs = |run: &str| -> BTreeMap<&str, String> {
        let declared = action["inputs"].as_object().expect("inputs");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let mut inputs: BTreeMap<&str, String> =
            declared.iter().map(|(name, input)| (name.as_str(), text(&input["default"]))).collect();
        inputs.insert("run", run.to_owned());
        inputs
    };
    let step =
        |run: &str| shell(&stack, steps[0]["run"].as_str().expect("a script"), &variables(&steps[0], &inputs(run)));
    assert_eq!(steps.len(), 1);
    assert!(fine(&step("./test.sh")).starts_with("beside ci-"));
    assert_eq!(step("./test.sh; exit 9").status.code(), Some(9));
    let junit = fs::read_to_string(stack.path("lockstep-artifacts/junit.xml")).expect("a JUnit file");
    assert!(junit.contains("ended with exit status: 9"), "{junit}");

    let gitlab = example("gitlab-ci.yml");
    let script = gitlab["test"]["script"].as_array().expect("a script");
    for line in script {
        assert!(fine(&shell(&stack, line.as_str().expect("a line"), &BTreeMap::new())).starts_with("beside ci-"));
    }
    let reported = gitlab["test"]["artifacts"]["reports"]["junit"].as_str().expect("a report");
    assert!(stack.path(reported).exists(), "{reported}");
    assert_eq!(stack.docker.labelled(docker::STACK, &stack.stack), BTreeSet::new());
}

#[test]
fn the_steps_of_a_workflow_share_one_copy_and_a_test_in_rust_gets_one() {
    let scenario = project();
    let workflow = example("github/workflow.yml");
    let steps = workflow["jobs"]["in-several-steps"]["steps"].as_array().expect("steps");
    let scripts: Vec<&str> = steps.iter().filter_map(|step| step["run"].as_str()).collect();
    let [up, test, down] = scripts[..] else { panic!("{scripts:?}") };
    let told = scenario.path("github-env");
    let mut job = BTreeMap::from([("GITHUB_ENV".to_owned(), told.display().to_string())]);
    fine(&shell(&scenario, up, &job));
    let text = fs::read_to_string(&told).expect("what the job is told");
    let mut lines = text.lines();
    while let Some((name, end)) = lines.next().and_then(|line| line.split_once("<<")) {
        let value: Vec<&str> = lines.by_ref().take_while(|line| *line != end).collect();
        job.insert(name.to_owned(), value.join("\n"));
    }
    let name = job["LOCKSTEP_ENVIRONMENT"].clone();
    assert_eq!(fine(&shell(&scenario, test, &job)), format!("beside {name}\n"));
    fine(&shell(&scenario, down, &job));
    assert_eq!(scenario.docker.labelled(docker::STACK, &scenario.stack), BTreeSet::new());

    let folder = scenario.path("");
    let helped = stack::Stack::get("ci", move || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lockstep"));
        command.arg("--project").arg(&folder);
        command
    });
    assert!(helped.variable("LOCKSTEP_CACHE_APP_URL").starts_with("redis://app:"));
    scenario.is_right(&helped.environment);
    drop(helped);
    assert_eq!(scenario.docker.labelled(docker::STACK, &scenario.stack), BTreeSet::new());
}
