"""Make a challenger every week with Airflow: copy this file to the folder of DAGs.

The worker has beam-fraud, and reaches the archive, the database of labels and the registry. The
password of the database comes from a connection of Airflow. A challenger is promoted only if it
finds more fraud in all traffic, at nearly the precision of the champion; streams and servers with
--registry take it up.
"""

from datetime import datetime, timedelta

from airflow import DAG
from airflow.operators.bash import BashOperator

PLACE = "/srv/fraud"
RETRAIN = """\
beam-fraud retrain {{ params.archive }} --database "$LABELS" --registry {{ params.registry }} \
--out {{ params.out }} --promote-if "traffic_recall >= old.traffic_recall" \
--promote-if "precision >= 0.9 * old.precision" --json
"""

with DAG(
    "fraud_retrain",
    description="A challenger of the labels that have come since",
    schedule="0 4 * * 0",
    start_date=datetime(2024, 1, 7),
    catchup=False,
    # A second retraining in one directory is refused.
    max_active_runs=1,
    params={
        "archive": f"{PLACE}/archive",
        "registry": f"{PLACE}/registry",
        "out": f"{PLACE}/retrained",
    },
):
    BashOperator(
        task_id="retrain",
        bash_command=RETRAIN,
        env={"LABELS": "{{ conn.fraud.get_uri() }}"},
        append_env=True,
        retries=2,
        retry_delay=timedelta(minutes=10),
    )
