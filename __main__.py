from blockstep.launch.cli import main

raise SystemExit(main())
