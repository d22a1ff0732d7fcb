#!/usr/bin/env bash
# All that is to be measured on a machine with one GPU and 16 CPU cores, beside each other, in so many seconds:
#     bash benchmarks/on_gpu.sh SECONDS [small] [DEVICE]
# ``small`` tries every part in about a minute. CIFAR-10 lies in .gpu, and results.tgz of an earlier run may: it goes on.
# What comes out is $OUT/results.tgz: rows, reports, finished trainings, and what each part printed.
set -u
seconds=$1 size=${2:-whole} device=${3:-cuda} out=${OUT:-build/on-gpu} work=/tmp/on-gpu began=$SECONDS
data=.gpu/cifar10_jpeg.npz
mkdir -p "$out" $work
[ -f .gpu/results.tgz ] && tar xzf .gpu/results.tgz -C $work
left() { python3 -c "print(round(max(0.05, ($seconds - $SECONDS + $began - $1) / 60), 2))"; }
if [ "$size" = small ]; then
  tables=(--images 1000 --tests 300 --rounds 1 --epochs 0.5 --loop-steps 10)
  robust=(--images 1000 --tests 300 --epochs 1 --emn-images 300 --emn-rounds 2 --victims resnet9 --adversaries none jpeg:10 fast-adversarial:4)
  cells=(--images 150 --tests 100 --protection-seeds 1 --victim-seeds 1 --adversaries jpeg:10)
else
  tables=() robust=(--victims resnet9 resnet18 --epochs 10) cells=()
fi
python3 benchmarks/gpu_tables.py --data $data --device $device --minutes "$(left 10)" --work $work \
  "${tables[@]}" >$work/tables.log 2>&1 & gpu=($!)
for more in "" "--epsilon 8"; do
  OMP_NUM_THREADS=1 nice -n 10 timeout "$seconds" python3 benchmarks/robustness.py --data $data --work $work/small \
    --methods texture $more --victims small-cnn --device cpu --workers 10 "${cells[@]}"
done >$work/small-cnn.log 2>&1 & cpu=$!
if [ "$size" != small ]; then # speed is measured with the GPU to itself
  for _ in $(seq 170); do grep -qs '"part": "emn"' $work/gpu_tables.jsonl && break; sleep 1; done
fi
python3 benchmarks/gpu_robustness.py --data $data --device $device --workers 6 --work $work --minutes "$(left 15)" \
  "${robust[@]}" >$work/robust.log 2>&1 & gpu+=($!)
for more in "" "--epsilon 8"; do
  timeout "$seconds" python3 benchmarks/robustness.py --data $data --work $work/convmixer \
    --methods texture $more --victims convmixer --device $device --workers 3 "${cells[@]}"
done >$work/convmixer.log 2>&1 & conv=$!
wait "${gpu[@]}"
while kill -0 $conv 2>/dev/null || kill -0 $cpu 2>/dev/null; do
  [ $((SECONDS - began)) -ge $((seconds - 10)) ] && break
  sleep 1
done
for log in small-cnn convmixer tables robust; do echo "== $log"; tail -c 2800 $work/$log.log; done
(cd $work && tar czf "$out/results.tgz" $(find . -name report.json -o -name cells -o -name '*.log' -o -name '*.jsonl' -o -name '*.md'))
ls -l "$out"
kill $cpu $conv 2>/dev/null
exit 0
