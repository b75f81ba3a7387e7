//! What a model is shown, and what its answers are worth: whole tasks, from files to scores.

use std::path::Path;

use model_swarms::error::{Error, Result};
use model_swarms::task::{
    Answers, LogLikelihood, Mode, PromptForm, Score, Split, Task, WORST_LOG_LIKELIHOOD, Work,
};

const QUIZ: &str = r#"{"dataset": "quiz-one",
  "dev": [
    {"id": 7, "domain": "sky", "question": "What is blue?",
     "choices": {"A": "the sky", "B": "an elephant"}, "answer": "A"},
    {"question": "What is grey?", "choices": {"B": "the sky", "A": "an elephant"}, "answer": "A"}],
  "test": [
    {"question": "Two?", "choices": {"A": "one", "B": "two"}, "answer": "B", "id": "t"}]}"#;

/// Opens `main.toml` among files in memory.
fn open(mode: Mode, files: &[(&str, &str)]) -> Result<Task> {
    Task::open_with(Path::new("dir/main.toml"), mode, |path| {
        let found = files.iter().find(|(name, _)| Path::new("dir").join(name) == path);
        let (_, text) = found.ok_or_else(|| Error::input(path, "no such file"))?;
        Ok(text.to_string())
    })
}

fn one(mode: Mode, toml: &str, data: &str) -> Task {
    open(mode, &[("main.toml", toml), ("data.json", data)]).unwrap()
}

fn texts(answers: &[&str]) -> Answers {
    Answers::Texts(answers.iter().map(|answer| answer.to_string()).collect())
}

/// Answers each round of generation with the next of `rounds`.
fn score(task: &Task, split: Split, rounds: &[&[&str]]) -> Score {
    let mut rounds = rounds.iter();
    task.evaluate(split, |_| Ok(texts(rounds.next().expect("as many rounds as asked for"))))
        .unwrap()
}

/// The prompts of a task's first round, set apart by lines.
fn prompts(task: &Task, split: Split) -> String {
    match task.parts[0].work(split).unwrap() {
        Work::Generate { prompts, .. } => prompts.join("\n-----\n"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn questions_with_options_read_like_the_authors() {
    // Broken: a prompt of a multiple-choice task, so every published score.
    let toml = "name = 'quiz'\nkind = 'multiple-choice'\ndata = 'data.json'";
    let task = one(Mode::Paper, toml, QUIZ);
    insta::assert_snapshot!(prompts(&task, Split::Dev), @r#"
    Please choose an option that best answers the question.
    Question: What is blue?
    A: the sky
    B: an elephant
    The answer is
    -----
    Please choose an option that best answers the question.
    Question: What is grey?
    B: the sky
    A: an elephant
    The answer is
    "#);
    assert_eq!(prompts(&task, Split::Dev), prompts(&one(Mode::Code, toml, QUIZ), Split::Dev));
    let sentence = QUIZ.replace("quiz-one", "hellaswag");
    insta::assert_snapshot!(prompts(&one(Mode::Code, toml, &sentence), Split::Test), @r#"
    Please choose an option that best completes the sentence.
    Question: Two?
    A: one
    B: two
    The answer is
    "#);
    let worked = QUIZ.replace("\"dev\"", "\"icl_prompt\": \"Question: One?\\nA.\", \"dev\"");
    insta::assert_snapshot!(prompts(&one(Mode::Code, toml, &worked), Split::Test), @r#"
    Question: One?
    A.
    Question: Two?
    A: one
    B: two
    The answer is
    "#);
}

#[test]
fn a_bare_question_stays_bare() {
    // Broken: an exact-match prompt gets a lead or a cue that the authors do not give.
    let toml = "name = 'sum'\nkind = 'exact-match'\ndata = 'data.json'";
    let data = r#"{"dev": [{"question": "1 + 1 =", "answer": "2"}]}"#;
    assert_eq!(prompts(&one(Mode::Paper, toml, data), Split::Dev), "1 + 1 =");
}

#[test]
fn each_dataset_is_asked_as_the_authors_ask_it() {
    // Broken: the number of new tokens or the padding of a published dataset.
    let mut lines = Vec::new();
    for (kind, dataset) in [
        ("multiple-choice", "mmlu-pro"),
        ("abstain", "mmlu"),
        ("exact-match", "NLGraph"),
        ("exact-match", "nlgraph_mini"),
        ("exact-match", "GSM8K"),
        ("exact-match", "other"),
    ] {
        let toml = format!("name = 'x'\nkind = '{kind}'\ndata = 'data.json'");
        let data = match kind {
            "exact-match" => {
                r#"{"dataset": "D", "dev": [{"question": "q", "answer": "1"}],
                                "test": [{"question": "q", "answer": "1"}]}"#
            }
            _ => &QUIZ.replace("quiz-one", "D"),
        };
        let task = one(Mode::Code, &toml, &data.replace("\"D\"", &format!("{dataset:?}")));
        let paper = one(Mode::Paper, &toml, &data.replace("\"D\"", &format!("{dataset:?}")));
        let show = |task: &Task, split| match task.parts[0].work(split).unwrap() {
            Work::Generate { max_new_tokens, pad_batch, form, .. } => {
                assert_eq!(form, PromptForm::Raw);
                format!(
                    "{max_new_tokens:>3} {:>2}",
                    pad_batch.map_or("-".into(), |n| n.to_string())
                )
            }
            other => panic!("{other:?}"),
        };
        let (dev, test) = (show(&task, Split::Dev), show(&task, Split::Test));
        let paper = show(&paper, Split::Test);
        lines.push(format!("{kind:<15} {dataset:<12} dev {dev}   test {test}   paper {paper}"));
    }
    insta::assert_snapshot!(lines.join("\n"), @r#"
    multiple-choice mmlu-pro     dev  10 10   test  10 10   paper  10  -
    abstain         mmlu         dev  10 10   test  10 10   paper  10  -
    exact-match     NLGraph      dev  10  5   test  10  5   paper  10  -
    exact-match     nlgraph_mini dev  10  5   test  10  5   paper  10  -
    exact-match     GSM8K        dev 200 10   test 200  5   paper 200  -
    exact-match     other        dev  10 10   test  10  5   paper  10  -
    "#);
}

#[test]
fn an_abstain_task_asks_twice() {
    // Broken: the second prompt, or effective reliability (right - wrong) / all.
    let toml = "name = 'doubt'\nkind = 'abstain'\ndata = 'data.json'";
    let task = one(Mode::Code, toml, QUIZ);
    let second = task.parts[0].follow_up(Split::Dev, &texts(&[" A.\n", "no idea"])).unwrap();
    let Work::Generate { prompts, max_new_tokens: 10, pad_batch: Some(10), .. } = second else {
        panic!("{second:?}")
    };
    insta::assert_snapshot!(prompts[0], @r#"
    Please choose an option that best answers the question.
    Question: What is blue?
    A: the sky
    B: an elephant
    The answer is
    Proposed answer: A.
    Is the proposed answer true or false? Directly answer with true or false.
    "#);
    let worth = |mode, first: &[&str], second: &[&str]| {
        score(&one(mode, toml, QUIZ), Split::Dev, &[first, second]).utility
    };
    for mode in [Mode::Paper, Mode::Code] {
        assert_eq!(worth(mode, &["A", "A"], &["true", "True."]), 1.0);
        assert_eq!(worth(mode, &["A", "B"], &["true", "perhaps"]), 0.0);
        assert_eq!(worth(mode, &["A", "B"], &["true", "It is FALSE"]), 0.5);
        assert_eq!(worth(mode, &["zebra", "B"], &["true", "true"]), -1.0);
    }
    assert_eq!(worth(Mode::Code, &["A", "A"], &["true", "true, not false"]), 0.5);
    assert_eq!(worth(Mode::Paper, &["A", "A"], &["true", "true, not false"]), 1.0);
}

#[test]
fn a_prediction_is_one_readable_line() {
    // Broken: the predictions file that `eval` writes.
    let toml = "name = 'quiz'\nkind = 'multiple-choice'\ndata = 'data.json'";
    let score = score(&one(Mode::Paper, toml, QUIZ), Split::Dev, &[&[" A. the sky\n", "dunno"]]);
    assert_eq!((score.utility, score.n_unparsed), (0.5, 1));
    let lines = score.predictions.iter().map(|line| serde_json::to_string(line).unwrap());
    insta::assert_snapshot!(lines.collect::<Vec<_>>().join(
        "
"
    ));
}

#[test]
fn gsm8k_is_read_at_its_end() {
    // Broken: mode `code` no longer sees 5 pieces on dev and 10 on test, or `paper` differs.
    let toml = "name = 'sum'\nkind = 'exact-match'\ndata = 'data.json'";
    let data = r#"{"dataset": "GSM8K", "dev": [{"question": "q", "answer": "42"}],
                   "test": [{"question": "q", "answer": "42"}]}"#;
    let worth = |mode, split, answer| score(&one(mode, toml, data), split, &[&[answer]]).utility;
    let early = "I get 42 which is the number you want";
    assert_eq!(worth(Mode::Code, Split::Dev, early), 0.0);
    assert_eq!(worth(Mode::Code, Split::Test, early), 1.0);
    assert_eq!(worth(Mode::Code, Split::Dev, "so it is 142"), 1.0);
    for split in [Split::Dev, Split::Test] {
        assert_eq!(worth(Mode::Paper, split, early), 1.0);
        assert_eq!(worth(Mode::Paper, split, "so it is 142"), 0.0);
        assert_eq!(worth(Mode::Paper, split, "42 + 1 = 43"), 0.0);
    }
    let words =
        format!("{toml}\n[quirks]\nexact_match = 'words'\ntail_pieces = {{dev = 2, test = 0}}");
    let task = one(Mode::Paper, &words, data);
    assert_eq!(score(&task, Split::Dev, &[&["42 + 1 = 43"]]).utility, 0.0);
    assert_eq!(score(&task, Split::Test, &[&["42 + 1 = 43"]]).utility, 1.0);
}

#[test]
fn a_multi_task_is_a_harmonic_mean() {
    // Broken: the utility of the multi-task domains (paper section 3).
    let part = |name| format!("name = '{name}'\nkind = 'multiple-choice'\ndata = 'data.json'");
    let (a, b) = (part("a"), part("b"));
    let files = |main: &'static str| {
        [("main.toml", main), ("a.toml", &a), ("b.toml", &b), ("data.json", QUIZ)]
            .map(|(name, text)| (name, text.to_string()))
    };
    let multi = |mode, main: &'static str| {
        let files = files(main);
        open(mode, &files.each_ref().map(|(name, text)| (*name, text.as_str()))).unwrap()
    };
    let main = "name = 'both'\nkind = 'multi'\ntasks = ['a.toml', 'b.toml']";
    let worth = |mode, first: &[&str], second: &[&str]| {
        score(&multi(mode, main), Split::Dev, &[first, second]).utility
    };
    for mode in [Mode::Paper, Mode::Code] {
        assert_eq!(worth(mode, &["A", "A"], &["A", "A"]), 1.0);
        assert_eq!(worth(mode, &["A", "A"], &["A", "B"]), 2.0 / 3.0);
        assert_eq!(worth(mode, &["A", "A"], &["B", "B"]), 0.0);
    }
    assert_eq!(worth(Mode::Paper, &["B", "B"], &["B", "B"]), 0.0);
    assert_eq!(worth(Mode::Code, &["B", "B"], &["B", "B"]), 0.01);
    let task = multi(Mode::Paper, main);
    let both = score(&task, Split::Dev, &[&["A", "A"], &["A", "?"]]);
    assert_eq!((task.n_examples(Split::Dev), both.predictions.len(), both.n_unparsed), (4, 4, 1));
    assert_eq!(both.parts.iter().map(|part| part.utility).collect::<Vec<_>>(), [1.0, 0.5]);
    let inputs: Vec<_> = task.inputs.iter().map(|path| path.display().to_string()).collect();
    assert_eq!(inputs, ["dir/main.toml", "dir/a.toml", "dir/data.json", "dir/b.toml"]);
}

#[test]
fn perplexity_is_a_mean_over_tokens() {
    // Broken: what is scored, or that long texts count by their tokens.
    let toml = "name = 'text'\nkind = 'perplexity'\ndata = 'data.json'";
    let data = r#"{"dev": [{"prompt": "Once upon"}, {"question": "1+1=", "answer": "2"}]}"#;
    let task = one(Mode::Paper, toml, data);
    let Work::LogLikelihood(scored) = task.parts[0].work(Split::Dev).unwrap() else { panic!() };
    let pairs: Vec<_> = scored.iter().map(|t| (t.prompt.as_str(), t.scored.as_str())).collect();
    assert_eq!(pairs, [("", "Once upon"), ("1+1=", " 2")]);
    let worth = |likelihoods: [(f64, usize); 2]| {
        let answers = likelihoods.map(|(sum, n_tokens)| LogLikelihood { sum, n_tokens });
        let run = |_| Ok(Answers::LogLikelihoods(answers.to_vec()));
        task.evaluate(Split::Dev, run).unwrap()
    };
    assert_eq!(worth([(-6.0, 3), (-1.0, 1)]).utility, -1.75);
    assert_eq!(worth([(-6.0, 3), (-1.0, 1)]).predictions[0].score, -2.0);
    assert_eq!(worth([(f64::NAN, 3), (-1.0, 1)]).utility, WORST_LOG_LIKELIHOOD);
    assert_eq!(worth([(f64::NEG_INFINITY, 3), (-1.0, 1)]).n_unparsed, 1);
}

#[test]
fn a_command_prints_one_number() {
    // Broken: a utility that the user's own program computes.
    let toml = "name = 'mine'\nkind = 'command'\nprogram = ['bin/score', '--fast']";
    let task = one(Mode::Paper, toml, "");
    let work = task.parts[0].work(Split::Dev).unwrap();
    let Work::Command { program, directory } = work else { panic!("{work:?}") };
    assert!(directory.is_absolute() && directory.ends_with("dir"), "{directory:?}");
    assert_eq!(program, [directory.join("bin/score").to_str().unwrap(), "--fast"]);
    let printed = |text: &str| task.evaluate(Split::Dev, |_| Ok(texts(&[text])));
    assert_eq!(printed(" -0.25\n").unwrap().utility, -0.25);
    for text in ["", "NaN", "inf", "0.5 0.6", "score: 1"] {
        let error = printed(text).unwrap_err().to_string();
        assert!(error.starts_with("dir/main.toml: "), "{error}");
        assert!(error.ends_with("wanted one number"), "{error}");
    }
}

#[test]
fn a_command_may_stand_in_the_current_folder() {
    // Broken: `--task mine.toml` is refused, where `--task ./mine.toml` is taken.
    let toml = "name = 'mine'\nkind = 'command'\nprogram = ['./score']";
    let task = Task::open_with(Path::new("mine.toml"), Mode::Paper, |_| Ok(toml.to_string()));
    let work = task.unwrap().parts[0].work(Split::Dev).unwrap();
    let Work::Command { program, directory } = work else { panic!("{work:?}") };
    assert_eq!(directory, std::env::current_dir().unwrap());
    assert_eq!(Path::new(&program[0]), directory.join("score"));
}

#[test]
fn conversations_and_limits_are_passed_on() {
    // Broken: `chat` or `limit` in a task file does nothing.
    let toml = "name = 'q'\nkind = 'multiple-choice'\ndata = 'data.json'\nchat = true\n\
                max_new_tokens = 33\nlimit = {dev = 1, test = 9}";
    let task = one(Mode::Code, toml, QUIZ);
    assert_eq!((task.n_examples(Split::Dev), task.n_examples(Split::Test)), (1, 1));
    let work = task.parts[0].work(Split::Dev).unwrap();
    let Work::Generate { form, max_new_tokens, pad_batch, .. } = work else { panic!("{work:?}") };
    assert_eq!((form, max_new_tokens, pad_batch), (PromptForm::Chat, 33, None));
}
