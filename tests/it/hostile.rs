//! Projects that nobody wrote in good faith: each is refused within a second of processor time (five where lockstep was
//! built without optimising it) and 100 MB of memory.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::project::Project;

const MOST_PROCESSOR: Duration = Duration::from_secs(if cfg!(debug_assertions) { 5 } else { 1 });
const MOST_MEMORY: u64 = 100 << 20;
/// A process that uses no processor and does not end either has hung.
const MOST_WALL: Duration = Duration::from_secs(30);
/// A refusal is for people.
const MOST_OUTPUT: u64 = 1 << 20;

const HEAD: &str = "lockstep: 1\nstack: shop\n";

/// Checks the project, and what the check takes; the text is what it said.
fn refused(project: &Project) -> String {
    let (out, err) = (project.path().join("out"), project.path().join("err"));
    let create = |path: &Path| Stdio::from(File::create(path).expect("a file for what it says"));
    let mut command = project.command(&["check"]);
    let mut child = command.stdout(create(&out)).stderr(create(&err)).spawn().expect("the binary starts");
    let began = Instant::now();
    let mut memory = 0;
    let processor = loop {
        memory = memory.max(peak(child.id()));
        let (ended, processor) = times(child.id());
        if ended {
            break processor;
        }
        if began.elapsed() > MOST_WALL || processor > MOST_PROCESSOR * 4 {
            child.kill().expect("it is still there");
            break processor.max(MOST_PROCESSOR * 4);
        }
        thread::sleep(Duration::from_millis(1));
    };
    let code = child.wait().expect("it ended").code();
    let said = fs::read_to_string(&out).expect("what it said is text");
    let complained = fs::read_to_string(&err).expect("what it complained of is text");
    assert!(processor <= MOST_PROCESSOR, "it took {processor:?} of processor time");
    assert!(memory <= MOST_MEMORY, "it took {} MB", memory >> 20);
    assert_eq!(code, Some(2), "{complained}");
    assert_eq!(complained, "");
    assert!(fs::metadata(&out).expect("what it said").len() <= MOST_OUTPUT, "nobody reads that much");
    said
}

/// Whether the process has ended, and the processor time that it took so far.
fn times(process: u32) -> (bool, Duration) {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).expect("a child that was not waited for is there");
    let fields: Vec<&str> = stat.rsplit_once(')').expect("its name").1.split_whitespace().collect();
    let ticks: u64 = [11, 12].into_iter().map(|at: usize| fields[at].parse::<u64>().expect("ticks")).sum();
    let per_second = rustix::param::clock_ticks_per_second();
    (fields[0] == "Z", Duration::from_millis(ticks * 1000 / per_second))
}

/// The most memory that the process had resident at once; 0 once it has ended.
fn peak(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kilobytes.unwrap_or_default() << 10
}

fn spec(text: &str) -> Project {
    Project::small().with("environments/stack.yaml", text)
}

/// A spec whose application gets one file from this template.
fn template(text: &str) -> Project {
    let app = "apps:\n  web:\n    image: web:1.0\n    files: { /etc/web/a: a.tera }\n";
    spec(&format!("{HEAD}{app}")).with("templates/a.tera", text)
}

fn says(project: &Project, rule: &str) {
    let said = refused(project);
    assert!(said.contains(&format!("error[{rule}]")), "{}", said.chars().take(2000).collect::<String>());
}

#[test]
fn a_spec_of_100_mb_that_holds_nothing_is_not_read() {
    let project = Project::small();
    let file = File::create(project.path().join("environments/stack.yaml")).expect("a file");
    file.set_len(100 << 20).expect("a hole");
    says(&project, "unreadable");
}

#[test]
fn a_spec_of_100_mb_of_yaml_is_not_read() {
    let project = Project::small();
    let mut file = File::create(project.path().join("environments/stack.yaml")).expect("a file");
    let part = "key: [value, value, value]\n".repeat(1 << 15);
    let mut written = 0;
    while written < 100 << 20 {
        file.write_all(part.as_bytes()).expect("a part");
        written += part.len();
    }
    says(&project, "unreadable");
}

#[test]
fn an_environment_a_template_and_a_lock_of_2_mb_are_not_read() {
    let big = "#".repeat(2 << 20);
    for path in ["environments/staging.yaml", "templates/a.tera", "environments/stack.lock"] {
        says(&Project::small().with(path, &big), "unreadable");
    }
}

#[test]
fn aliases_that_multiply_are_counted_before_they_are_built() {
    let mut bomb = format!("{HEAD}keys:\n  a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for level in 1..9 {
        let before = format!("*a{}", level - 1);
        bomb += &format!("  a{level}: &a{level} [{}]\n", vec![before; 9].join(", "));
    }
    says(&spec(&bomb), "too-large");
}

#[test]
fn aliases_by_the_hundred_thousand_are_too_many() {
    says(&spec(&format!("{HEAD}owner: &a x\nkeys: [{}]\n", "*a,".repeat(300_000))), "too-large");
    says(&spec(&format!("{HEAD}owner: &a x\nkeys: [{}]\n", "*a,".repeat(1_000_000))), "unreadable");
}

#[test]
fn anchors_by_the_hundred_thousand_are_too_many() {
    says(&spec(&format!("{HEAD}keys: [{}]\n", "&a x,".repeat(150_000))), "too-large");
}

#[test]
fn a_lock_that_multiplies_is_refused() {
    let mut bomb = "lockstep: 1\na0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..9 {
        bomb += &format!("a{level}: &a{level} [{}]\n", vec![format!("*a{}", level - 1); 9].join(", "));
    }
    says(&Project::small().with("environments/stack.lock", bomb + "images: {}\n"), "lock");
}

#[test]
fn brackets_in_brackets_have_an_end() {
    refused(&spec(&format!("{HEAD}keys: {}", "[".repeat(10_000))));
    refused(&spec(&format!("{HEAD}keys: {}{}\n", "[".repeat(10_000), "]".repeat(10_000))));
    refused(&spec(&format!("{HEAD}keys: {}", "{a: ".repeat(10_000))));
}

#[test]
fn blocks_in_blocks_have_an_end() {
    // A thousand levels of mappings fill the megabyte that a spec may have; sequences nest on one line.
    refused(&spec(&(0..1_300).map(|level| format!("{}a:\n", " ".repeat(level))).collect::<String>()));
    refused(&spec(&format!("{HEAD}keys:\n  {}x\n", "- ".repeat(10_000))));
    refused(&spec(&format!("{HEAD}keys:\n  {}x\n", "? ".repeat(10_000))));
}

#[test]
fn bytes_that_are_no_text_are_refused() {
    says(&Project::small().with("environments/stack.yaml", [0xff, 0xfe, 0x00, 0x6c]), "not-text");
    says(&Project::small().with("environments/staging.yaml", [0x80]), "not-text");
    says(&Project::small().with("templates/a.tera", b"caf\xe9"), "not-text");
    says(&spec(&format!("{HEAD}owner: a\0b\n")), "forbidden-character");
    says(&spec(&"\0".repeat(1_000_000)), "forbidden-character");
}

#[test]
fn a_template_that_loops_is_given_up_on() {
    let loops = "{% for a in range(end=100000) %}".repeat(3) + &"{% endfor %}".repeat(3);
    says(&template(&loops), "limit");
}

#[test]
fn a_template_that_doubles_its_own_text_is_given_up_on() {
    says(&template(&format!("{{% set x = \"{}\" %}}{}", "a".repeat(16), "{% set x = x ~ x %}".repeat(40))), "limit");
    let looped = "{% set x = \"aaaaaaaaaaaaaaaa\" %}{% for a in range(end=40) %}{% set_global x = x ~ x %}{% endfor %}";
    says(&template(looped), "limit");
}

#[test]
fn a_template_that_writes_without_end_is_cut_off() {
    let said = refused(&template("{% for a in range(end=100000) %}0123456789abcdef{% endfor %}"));
    assert!(said.contains("templates/a.tera"), "{said}");
}

#[test]
fn a_range_without_end_is_refused() {
    refused(&template("{% for a in range(end=9000000000000000000) %}{% endfor %}"));
    refused(&template("{% set x = range(end=1000000000000) %}"));
}

#[test]
fn templates_that_include_themselves_are_refused() {
    says(&template("{% include \"a.tera\" %}"), "template-cycle");
    says(&template("{% extends \"a.tera\" %}"), "template-cycle");
}

#[test]
fn an_expression_in_an_expression_has_an_end() {
    for (open, close) in [("(", ")"), ("[", "]"), ("not ", ""), ("-", ""), ("{\"a\": ", "}")] {
        refused(&template(&format!("{{{{ {}1{} }}}}", open.repeat(20_000), close.repeat(20_000))));
    }
    refused(&template(&("{% if true %}".repeat(20_000) + &"{% endif %}".repeat(20_000))));
    refused(&template(&format!("{{{{ 1{} }}}}", " + 1".repeat(100_000))));
    refused(&template(&format!("{{{{ 1{} }}}}", " | times(by=1)".repeat(20_000))));
    says(&spec(&format!("{HEAD}apps: {{ web: {{ image: \"{{{{ {}1 }}}}\" }} }}\n", "(".repeat(20_000))), "template");
}

#[test]
fn a_template_outside_its_folder_is_refused() {
    let root = "apps:\n  web:\n    image: web:1.0\n";
    for name in ["../environments/staging.yaml", "/etc/passwd", "a/../../b.tera", "..", "/"] {
        says(&spec(&format!("{HEAD}{root}    files: {{ /etc/web/a: \"{name}\" }}\n")), "path");
    }
}

#[test]
fn what_is_no_file_is_not_opened_for_long() {
    let stack = "environments/stack.yaml";
    let project = Project::small();
    fs::remove_file(project.path().join(stack)).expect("the file goes");
    let folder = rustix::fs::CWD;
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mkfifoat(folder, project.path().join(stack), mode).expect("a pipe");
    says(&project, "unreadable");

    let project = Project::small();
    fs::remove_file(project.path().join(stack)).expect("the file goes");
    fs::create_dir(project.path().join(stack)).expect("a folder");
    says(&project, "unreadable");

    for target in ["/dev/zero", "/proc/self/environ", "staging.yaml", "/etc/passwd", "nowhere"] {
        let project = Project::small();
        fs::remove_file(project.path().join(stack)).expect("the file goes");
        std::os::unix::fs::symlink(target, project.path().join(stack)).expect("a link");
        let said = refused(&project);
        assert!(said.contains("links are not followed"), "{target}: {said}");
    }
}

#[test]
fn a_template_that_is_a_link_is_not_followed() {
    let project = template("unused");
    fs::remove_file(project.path().join("templates/a.tera")).expect("the file goes");
    std::os::unix::fs::symlink("/etc/passwd", project.path().join("templates/a.tera")).expect("a link");
    let said = refused(&project);
    assert!(said.contains("links are not followed") && !said.contains("root:"), "{said}");
}

#[test]
fn a_line_of_900_kb_is_shown_in_part() {
    let entries: Vec<String> = (0..80_000).map(|number| format!("{number:06}: 1")).collect();
    says(&spec(&format!("{HEAD}keys: {{{}}}\n", entries.join(", "))), "too-large");
    refused(&spec(&format!("{HEAD}colour: {}\n", "x".repeat(900_000))));
    refused(&spec(&format!("{HEAD}{}: 1\n", "x".repeat(900_000))));
}

#[test]
fn mistakes_by_the_ten_thousand_are_counted_and_not_all_shown() {
    let said = refused(&spec(&format!("{HEAD}colours:\n{}", "  a: 1\n".repeat(49_000))));
    assert!(said.contains("49000 errors"), "{}", &said[said.len() - 200..]);
    refused(&spec(&format!("{HEAD}keys:\n{}", "  a: 1\n".repeat(50_000))));
    refused(&spec(&(0..49_000).fold(HEAD.to_owned(), |text, number| text + &format!("k{number}: 1\n"))));
}

#[test]
fn names_without_a_value_by_the_ten_thousand_are_refused() {
    let env: String = (0..10_000).map(|number| format!("      A{number}: \"{{{{ nowhere }}}}\"\n")).collect();
    refused(&spec(&format!("{HEAD}apps:\n  web:\n    image: web:1.0\n    env:\n{env}")));
    refused(&template(&(0..10_000).map(|number| format!("{{{{ x{number} }}}}")).collect::<String>()));
}

#[test]
fn odd_text_by_the_megabyte_is_refused() {
    for text in
        [":", "-", "? ", "!a ", "%YAML 1.2\n", "#", " ", "\n", "\t", "'", "\"\\x41", "---\n", "&a ", "| \n", "<<: "]
    {
        refused(&spec(&text.repeat(900_000 / text.len())));
    }
}
