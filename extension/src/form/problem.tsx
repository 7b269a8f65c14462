// What is wrong and what to do: two lines, everywhere the same.
import { Problem } from '../api';

export function ProblemLines(props: { problem: Pick<Problem, 'title' | 'todo'> }): JSX.Element {
  return (
    <div className="aip-problem" role="alert">
      <p className="aip-problem-what">{props.problem.title}</p>
      {props.problem.todo && <p className="aip-problem-todo">{props.problem.todo}</p>}
    </div>
  );
}
