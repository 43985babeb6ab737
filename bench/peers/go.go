// Go: context.Context, and two goroutines that take functions from a channel.
// What is measured, and how it is said, is in peer.h.
package main

import (
	"context"
	"fmt"
	"math/bits"
	"os"
	"runtime"
	"sort"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

const (
	workers   = 2
	noMeasure = 3
	wakeGap   = 500 * time.Microsecond
	hour      = time.Hour
)

func sayEach(start time.Time, n int) {
	fmt.Printf("%.3f\n", float64(time.Since(start).Nanoseconds())/float64(n))
}

func sayRate(start time.Time, n int) {
	fmt.Printf("%.3f\n", float64(n)/time.Since(start).Seconds())
}

func poll(threads, n int) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var all sync.WaitGroup
	start := time.Now()
	for t := 0; t < threads; t++ {
		all.Add(1)
		go func() {
			defer all.Done()
			for i := 0; i < n; i++ {
				if ctx.Err() != nil {
					panic("done")
				}
			}
		}()
	}
	all.Wait()
	sayEach(start, n)
}

func work(n int) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	x := uint64(88172645463325252)
	start := time.Now()
	for i := 0; i < n; i++ {
		if ctx.Err() != nil {
			panic("done")
		}
		x ^= x >> 12
		x ^= x << 25
		x ^= x >> 27
		x *= 0x2545F4914F6CDD1D
	}
	sayEach(start, n)
	runtime.KeepAlive(x)
}

func life(n int, hasParent bool) {
	parent := context.Background()
	if hasParent {
		own, cancel := context.WithCancel(parent)
		defer cancel()
		parent = own
	}
	start := time.Now()
	for i := 0; i < n; i++ {
		_, cancel := context.WithCancel(parent)
		cancel()
	}
	sayEach(start, n)
}

func timeout(n, others int) {
	for i := 0; i < others; i++ {
		_, cancel := context.WithTimeout(context.Background(),
			hour+time.Duration(i)*time.Millisecond)
		defer cancel()
	}
	start := time.Now()
	for i := 0; i < n; i++ {
		_, cancel := context.WithTimeout(context.Background(),
			hour+time.Duration(i)*time.Microsecond)
		cancel()
	}
	sayEach(start, n)
}

func fanOut(n int) {
	var before, after runtime.MemStats
	root, cancel := context.WithCancel(context.Background())
	children := make([]context.Context, n)
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := range children {
		child, end := context.WithCancel(root)
		defer end()
		children[i] = child
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	start := time.Now()
	cancel()
	took := time.Since(start)
	fmt.Printf("%.3f %.3f\n", float64(took.Nanoseconds())/float64(n),
		float64(after.HeapAlloc-before.HeapAlloc)/float64(n))
	runtime.KeepAlive(children)
}

func open() (chan func(), *sync.WaitGroup) {
	tasks := make(chan func(), 1024)
	all := new(sync.WaitGroup)
	for i := 0; i < workers; i++ {
		all.Add(1)
		go func() {
			defer all.Done()
			for task := range tasks {
				task()
			}
		}()
	}
	return tasks, all
}

func submit(producers, n int) {
	var ran int64
	var given sync.WaitGroup
	tasks, all := open()
	one := func() { atomic.AddInt64(&ran, 1) }
	start := time.Now()
	for p := 0; p < producers; p++ {
		given.Add(1)
		go func() {
			defer given.Done()
			for i := 0; i < n/producers; i++ {
				tasks <- one
			}
		}()
	}
	given.Wait()
	close(tasks)
	all.Wait()
	sayRate(start, n)
}

// A goroutine each: this is how Go does it.
func tree(n int, joins bool) {
	var all sync.WaitGroup
	var branch func(depth int, wait *sync.WaitGroup)
	branch = func(depth int, wait *sync.WaitGroup) {
		defer wait.Done()
		if depth == 1 {
			return
		}
		below := wait
		if joins {
			below = new(sync.WaitGroup)
		}
		for i := 0; i < 2; i++ {
			below.Add(1)
			go branch(depth-1, below)
		}
		if joins {
			below.Wait()
		}
	}
	start := time.Now()
	all.Add(1)
	go branch(bits.TrailingZeros(uint(n+1)), &all)
	all.Wait()
	sayRate(start, n)
}

func wake(n int) {
	var at int64
	tasks, _ := open()
	samples := make([]float64, n)
	for i := range samples {
		atomic.StoreInt64(&at, 0)
		time.Sleep(wakeGap)
		start := time.Now()
		tasks <- func() { atomic.StoreInt64(&at, int64(time.Since(start))) }
		for atomic.LoadInt64(&at) == 0 {
			time.Sleep(wakeGap)
		}
		samples[i] = float64(atomic.LoadInt64(&at))
	}
	sort.Float64s(samples)
	fmt.Printf("%.3f %.3f\n", samples[n/2], samples[n*99/100])
}

// From cancel() to a goroutine that polls having seen it.
func seen(n int) {
	samples := make([]float64, n)
	give, over := make(chan context.Context), make(chan time.Time)
	var polling int32
	go func() {
		for ctx := range give {
			atomic.StoreInt32(&polling, 1)
			for ctx.Err() == nil {
			}
			over <- time.Now()
		}
	}()
	for i := range samples {
		ctx, cancel := context.WithCancel(context.Background())
		atomic.StoreInt32(&polling, 0)
		give <- ctx
		for atomic.LoadInt32(&polling) == 0 {
		}
		for t := time.Now(); time.Since(t) < 5*time.Microsecond; {
		}
		start := time.Now()
		cancel()
		samples[i] = float64((<-over).Sub(start))
	}
	sort.Float64s(samples)
	fmt.Printf("%.3f %.3f\n", samples[n/2], samples[n*99/100])
}

func main() {
	if len(os.Args) != 3 {
		os.Exit(noMeasure)
	}
	n, _ := strconv.Atoi(os.Args[2])
	switch os.Args[1] {
	case "poll1":
		poll(1, n)
	case "poll2":
		poll(2, n)
	case "work1":
		work(n)
	case "life":
		life(n, false)
	case "child":
		life(n, true)
	case "timeout":
		timeout(n, 0)
	case "timeout-crowded":
		timeout(n, 400000)
	case "fan-out":
		fanOut(n)
	case "submit1":
		submit(1, n)
	case "submit4":
		submit(4, n)
	case "tree":
		tree(n, false)
	case "join":
		tree(n, true)
	case "wake":
		wake(n)
	case "seen":
		seen(n)
	default:
		os.Exit(noMeasure)
	}
}
